"""
The launch files: their arguments, what they start, and that all of it works together.

The wheels have no ``launch``; what the arguments mean is plain Python and tried here for real, and
where a ROS installation has it, everything is launched.
"""

import ast
import json
import os
from pathlib import Path
import re
import signal
import subprocess
import sys

from harness import NodeProcess, read_node, wait_until
import pytest
import yaml

from seg_node.errors import ConfigError
from seg_node.model.taxonomy import load_taxonomy
from seg_node.ros.cameras import Camera
from seg_node.ros.launching import arguments, asked_for, refuse_unknown, start_of
from seg_node.ros.layouts import foxglove_layout, rviz_config, View
from seg_node.ros.parameter_table import CAMERA, NODE
from seg_node.ros.parameters import EMPTY
from seg_node.ros.topics import OUTPUT_NAMES
from seg_node.tools import layout

ROOT = Path(__file__).resolve().parents[1]
LAUNCH_FILES = sorted(ROOT.glob('launch/*.launch.py'))
CONFIG = ROOT / 'config' / 'seg_node.yaml'
DEFAULTS = {argument.name: argument.default for argument in arguments()}


def values(**given):
    """Return the arguments' values as launch has them."""
    assert set(given) <= set(DEFAULTS)
    return {**DEFAULTS, **{name: str(value) for name, value in given.items()}}


# --- the arguments ---

def test_every_parameter_is_an_argument_and_each_is_described():
    names = [argument.name for argument in arguments()]
    assert len(set(names)) == len(names)
    assert {row.name for row in (*NODE, *CAMERA)} <= set(names)
    assert all(len(argument.description) > 20 for argument in arguments())


def test_without_arguments_nothing_is_set():
    start = start_of(values())
    assert (start.name, start.namespace, start.parameters) == ('seg_node', '', [])
    assert asked_for(values()) == []


def test_arguments_are_values_of_the_parameters_types():
    start = start_of(values(output_width=424, output_height=240, taxonomy='autoware16', gpu_id=1,
                            camera_info_topic='/info', reliable='true', precision='fp16',
                            drivable_classes='road, sidewalk', overlay_alpha=1,
                            use_sim_time='true', cameras='front'))
    assert start.parameters == [{
        'output_width': 424, 'output_height': 240, 'taxonomy': 'autoware16', 'gpu_id': 1,
        'front.camera_info_topic': '/info', 'front.reliable': True, 'precision': 'fp16',
        'drivable_classes': ['road', 'sidewalk'], 'overlay_alpha': 1.0, 'use_sim_time': True,
        'cameras': ['front']}]
    assert type(start.parameters[0]['overlay_alpha']) is float


@pytest.mark.parametrize('text', ['left,right', '[left, right]', "['left', 'right']",
                                  '["left","right"]', ' left , right,'])
def test_lists_as_people_write_them(text):
    assert start_of(values(cameras=text)).parameters == [{'cameras': ['left', 'right']}]


def test_the_cameras_of_a_file_need_not_be_said_again():
    start = start_of(values(params_file=CONFIG, transport='compressed', preset='nav2'))
    assert start.parameters == [str(CONFIG), {
        'preset': 'nav2', 'front.transport': 'compressed', 'rear.transport': 'compressed'}]


@pytest.mark.parametrize('given, words', [
    ({'cameras': 'front,rear', 'image_topic': '/image'}, 'image_topic is for one camera'),
    ({'params_file': CONFIG, 'calibration': 'demo_camera'}, 'these are front, rear'),
    ({'params_file': '/nowhere.yaml'}, '/nowhere.yaml cannot be read'),
    ({'output_width': 'wide'}, 'must be an integer'), ({'gpu_id': 64}, '0 .. 63'),
    ({'reliable': 'maybe'}, 'must be a bool'), ({'name': 'seg/node'}, 'letters, digits and _'),
    ({'name': 'größe'}, 'letters, digits and _'), ({'namespace': '/a b'}, "is '/a b'; allowed"),
    ({'namespace': '/1'}, 'no digit at their beginning'),
])
def test_what_makes_no_sense_is_refused(given, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        start_of(values(**given))


def test_misspelt_arguments_are_refused():
    refuse_unknown(['rviz:=true', 'preset:=nav2'], list(DEFAULTS))
    with pytest.raises(ConfigError, match="image_topics is no argument.*mean 'image_topic'"):
        refuse_unknown(['image_topics:=/x'], list(DEFAULTS))


# --- all pairs of preset, cameras, namespace, params_file and viewer ---

PAIRS = [
    # preset, cameras, namespace, params_file, rviz
    ('', '', '', False, True), ('', 'left,right', 'car', True, False),
    ('nav2', '', 'car', False, False), ('nav2', 'left,right', '', True, True),
    ('nvblox', '', '', True, False), ('nvblox', 'left,right', 'car', False, True),
    ('autoware', 'left,right', '', False, False), ('autoware', '', 'car', True, True),
]


def test_the_pairs_are_complete():
    for one in range(5):
        for other in range(one):
            seen = {(row[one], row[other]) for row in PAIRS}
            assert seen == {(a[one], b[other]) for a in PAIRS for b in PAIRS}


def command_line(folder, start):
    """Return the arguments that launch_ros gives the node behind --ros-args."""
    found = ['-r', f'__node:={start.name}', '-r', f'__ns:=/{start.namespace}']
    for index, entry in enumerate(start.parameters):
        if isinstance(entry, dict):
            path = folder / f'{index}.yaml'
            path.write_text(yaml.safe_dump({'/**': {'ros__parameters': entry}}))
            entry = str(path)
        found += ['--params-file', entry]
    return found


def published(command, classes):
    """Return the topics of the publishers that a node with this command line has."""
    with read_node(*command) as (node, _, settings):
        for camera in settings.cameras:
            Camera(node, camera, classes,
                   lambda output, name=camera.name: settings.topic(output, name),
                   settings.ground, False, lambda frame: None)
        return {publisher.topic_name for publisher in node.publishers}


@pytest.mark.parametrize('preset, cameras, namespace, file, rviz', PAIRS)
def test_pairs_work_together(message_types, tmp_path, preset, cameras, namespace, file, rviz):
    """What the viewer shows is what the node publishes, whatever is combined."""
    given = values(preset=preset, cameras=cameras, namespace=namespace, rviz=str(rviz).lower(),
                   params_file=CONFIG if file else '')
    command = command_line(tmp_path, start_of(given))
    topics = published(command, load_taxonomy('camvid11'))
    views, frame, _ = layout.views_of(['--ros-args', *command])
    names = cameras.split(',') if cameras else ['front', 'rear'] if file else ['camera']
    assert [one.name for one in views] == names and frame == 'base_link'
    for one in views:
        assert set(one.outputs) == set(OUTPUT_NAMES) and set(one.outputs.values()) <= topics
    consumer = {'nav2': 'segmentation/{camera}/mask' if len(names) > 1 else 'segmentation/mask',
                'nvblox': 'camera_{index}/mask/image', '': 'seg_node/{camera}/mask',
                'autoware': 'mask{index}'}[preset]
    space = '/perception/object_recognition/detection/' if preset == 'autoware' else (
        f'/{namespace}/' if namespace else '/')
    for index, name in enumerate(names):
        assert space + consumer.format(camera=name, index=index) in topics
    assert asked_for(given) == (['--rviz'] if rviz else [])
    shown = yaml.safe_load(rviz_config(views, frame))['Visualization Manager']['Displays']
    assert {display['Topic']['Value'] for display in shown if 'Topic' in display} <= (
        topics | {one.image for one in views})


def test_layouts_show_every_camera():
    views = [View(name, f'/{name}/image_raw', {output: f'/seg/{name}/{output}' for output in
                                               OUTPUT_NAMES}) for name in ('left', 'right')]
    shown = yaml.safe_load(rviz_config(views, 'odom'))['Visualization Manager']
    topics = {display['Topic']['Value']: display['Topic'] for display in shown['Displays']
              if 'Topic' in display}
    assert {'/left/image_raw', '/seg/right/overlay', '/seg/left/scan'} <= set(topics)
    # A map is published once for all who come later.
    assert topics['/seg/left/drivable_grid']['Durability Policy'] == 'Transient Local'
    assert shown['Global Options']['Fixed Frame'] == 'odom'
    layout = foxglove_layout(views, 'odom')
    shown = {panel.get('imageMode', {}).get('imageTopic') for panel in
             layout['configById'].values()}
    assert {'/left/image_raw', '/seg/right/drivable'} <= shown

    def panels(part):
        return {part} if isinstance(part, str) else panels(part['first']) | panels(part['second'])
    assert panels(layout['layout']) == set(layout['configById'])


def test_without_rviz_there_is_a_message_and_no_error(tmp_path):
    result = subprocess.run(
        [sys.executable, '-m', 'seg_node.tools.layout', '--rviz', '--foxglove',
         str(tmp_path / 'layout.json')], text=True, capture_output=True, timeout=60,
        env={**os.environ, 'PATH': str(tmp_path), 'AMENT_PREFIX_PATH': str(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert 'RViz is not installed here (package rviz2)' in result.stderr
    assert json.loads((tmp_path / 'layout.json').read_text())['configById']


def test_rviz_gets_the_names_and_the_clock(tmp_path):
    """A program that stands for rviz2 keeps its command line."""
    told = tmp_path / 'told'
    program = tmp_path / 'rviz2'
    program.write_text(f'#!/bin/sh\necho "$@" > {told}\n/bin/cp "$2" {tmp_path}/shown\n')
    program.chmod(0o755)
    subprocess.run([sys.executable, '-m', 'seg_node.tools.layout', '--rviz', '--ros-args', '-p',
                    'preset:=nvblox', '-p', 'use_sim_time:=true', '-r',
                    'camera/image_raw:=/usb/image_raw'], check=True, timeout=60,
                   env={**os.environ, 'PATH': f'{tmp_path}:/bin'})
    assert 'use_sim_time:=true' in told.read_text()
    shown = (tmp_path / 'shown').read_text()
    assert '/usb/image_raw' in shown and '/seg_node/camera/overlay' in shown


# --- the example ---

def test_the_example_shows_every_parameter_with_its_default():
    text = CONFIG.read_text(encoding='utf-8')
    [node] = yaml.safe_load(re.sub('^    # (?=[a-z_]+: )', '    ', text, flags=re.M)).values()
    found = node['ros__parameters']
    cameras = found['cameras']
    assert set(found) == {row.name for row in NODE} | set(cameras)
    for row in NODE:
        if row.name != 'cameras':
            default = [] if row.default == EMPTY else row.default
            assert found[row.name] == default and type(found[row.name]) is type(default)
    for camera in cameras:
        assert set(found[camera]) == {row.name for row in CAMERA}


def test_the_node_takes_the_example(tmp_path):
    node = NodeProcess(tmp_path, '--params-file', str(CONFIG), '-r', '__ns:=/car')
    try:
        node.wait_for_log('camera rear: /sensing/camera/rear/image_raw/compressed')
    finally:
        node.process.kill()
        node.wait()
    assert 'camera front: /sensing/camera/front/image_raw -> /car/seg_node/front/mask' in node.log


# --- the files ---

def calls(path, name):
    """Yield the keyword arguments of the calls of a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == name:
            yield {keyword.arg: keyword.value for keyword in node.keywords}


@pytest.mark.parametrize('launch_file', LAUNCH_FILES, ids=lambda path: path.name)
def test_executables_exist(launch_file):
    entry_points = (ROOT / 'setup.py').read_text(encoding='utf-8')
    for call in calls(launch_file, 'Node'):
        assert f"'{call['executable'].value} = seg_node." in entry_points


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that launches, with programs that only tell their command line."""
    pytest.importorskip('launch_ros', reason='the wheels have no launch_ros; a ROS has')
    share = tmp_path / 'share'
    marker = share / 'ament_index' / 'resource_index' / 'packages' / 'seg_node'
    marker.parent.mkdir(parents=True)
    marker.touch()
    (share / 'seg_node').symlink_to(ROOT)
    folder = tmp_path / 'lib' / 'seg_node'
    folder.mkdir(parents=True)
    for name, stays in (('seg_node', True), ('replay', False)):
        (folder / name).write_text(
            f'#!{sys.executable}\nimport json, os, sys, time\n'
            f'part = {str(tmp_path / name)!r}\n'
            'json.dump([sys.argv[1:], dict(os.environ), os.getpid()], open(part + ".new", "w"))\n'
            f'os.rename(part + ".new", part + ".json")\ntime.sleep({600 if stays else 0})\n')
    (folder / 'layout').write_text(f'#!{sys.executable}\nimport sys\n'
                                 'from seg_node.tools.layout import main\nsys.exit(main())\n')
    for program in folder.iterdir():
        program.chmod(0o755)
    prefixes = filter(None, [str(tmp_path), os.environ.get('AMENT_PREFIX_PATH')])
    monkeypatch.setenv('AMENT_PREFIX_PATH', os.pathsep.join(prefixes))
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), *sys.path]))
    monkeypatch.delenv('FASTDDS_BUILTIN_TRANSPORTS', raising=False)

    def launch(file='segmentation.launch.py', until='', **given):
        code = ('import sys; sys.argv[0] = "ros2"\n'
                'from ros2launch.api import launch_a_launch_file as run\n'
                'sys.exit(run(launch_file_path=sys.argv[1], launch_file_arguments=sys.argv[2:], '
                'noninteractive=True))')
        log, told = tmp_path / 'log', tmp_path / 'seg_node.json'
        told.unlink(missing_ok=True)
        with log.open('wb') as out:
            process = subprocess.Popen(
                [sys.executable, '-c', code, str(ROOT / 'launch' / file),
                 *(f'{name}:={value}' for name, value in given.items())], stdout=out,
                stderr=subprocess.STDOUT, cwd=tmp_path)
        try:
            wait_until(lambda: process.poll() is not None or told.exists()
                       and until in log.read_text(), 60)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(30)
        finally:
            process.kill()
        found = json.loads(told.read_text()) if told.exists() else None
        if found:
            assert not Path(f'/proc/{found[2]}').exists(), 'the node is an orphan'
        return found, log.read_text()

    return launch


def parameters_of(command):
    """Return what the parameter files of a command line say, later ones on top."""
    merged = {}
    for option, value in zip(command, command[1:], strict=False):
        if option == '--params-file' and Path(value).exists():
            # launch_ros writes lists as Python tuples, which rcl's reader takes for lists
            [section] = yaml.full_load(Path(value).read_text()).values()
            merged.update(section['ros__parameters'])
    return merged


def test_launched_plainly(installed):
    (command, environment, _), log = installed()
    assert parameters_of(command) == {}, log
    profile = ROOT / 'config' / 'fastdds_shm.xml'
    assert any(Path(environment.get(name, '/')).samefile(profile) for name in
               ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'))


def test_launched_without_rviz_the_node_runs_and_ends_with_the_launch(installed):
    (command, _, _), log = installed(
        until='layout-1]: process has finished cleanly', rviz='true', name='seg', namespace='car',
        params_file=CONFIG, preset='nvblox', model='7', foxglove='layout.json')
    assert 'RViz is not installed here' in log and 'there are now' not in log
    assert '__node:=seg' in command and '__ns:=/car' in command
    assert '-p' in command or '--params-file' in command


@pytest.mark.parametrize('given, message', [
    ({'cameras': 'front,rear', 'image_topic': '/image'}, 'image_topic is for one camera'),
    ({'use_sim_time': 'maybe'}, 'use_sim_time'), ({'on_blind': 'panic'}, 'on_blind'),
    ({'image_topics': '/x'}, "Did you mean 'image_topic'?"),
])
def test_launch_refuses_what_makes_no_sense(installed, given, message):
    told, log = installed(**given)
    assert told is None and message in log


def test_replay_passes_its_arguments_on(installed):
    (command, _, _), log = installed('replay.launch.py', source='/some/drive', preset='nvblox')
    assert parameters_of(command)['use_sim_time'] is True, log
    told, log = installed('replay.launch.py', source='/some/drive', lops='3')
    assert "lops is no argument of this launch file. Did you mean 'loops'?" in log
