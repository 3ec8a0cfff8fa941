"""
The launch files: documented, and true to the node, its parameters and the files they name.

The wheels have no ``launch``, so most is read from the source; where a ROS installation has it,
the node's command line is made for real.
"""

import ast
import json
import os
from pathlib import Path
import subprocess
import sys

from harness import NodeProcess
import pytest
import yaml

from seg_node import products
from seg_node.ros import ground
from seg_node.ros.parameter_table import CAMERA, NODE
from seg_node.ros.parameters import EMPTY

ROOT = Path(__file__).resolve().parents[1]
LAUNCH_FILES = sorted(ROOT.glob('launch/*.launch.py'))
CONFIG = ROOT / 'config' / 'seg_node.yaml'
PARAMETERS = {row.name for row in NODE} | {'use_sim_time'}
OF_CAMERAS = {row.name for row in CAMERA}


def tree_of(path):
    return ast.parse(path.read_text(encoding='utf-8'))


def calls(tree, name):
    """Yield the arguments of the calls of a function, by name; the first positional one is ''."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == name:
            yield {'': node.args[0] if node.args else None,
                   **{keyword.arg: keyword.value for keyword in node.keywords}}


def constants(tree):
    """Return the module's constants that are plain values."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                pass
    return found


def declared(path):
    """Return the arguments a launch file has, with those of the files it includes."""
    tree = tree_of(path)
    names = [call[''].value for call in calls(tree, 'DeclareLaunchArgument')]
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and text.endswith('.launch.py') and ' ' not in text:
            names += declared(ROOT / 'launch' / text)
    return names


@pytest.fixture(params=LAUNCH_FILES, ids=lambda path: path.name)
def launch_file(request):
    return request.param


def test_there_are_launch_files():
    assert {path.name for path in LAUNCH_FILES} >= {'segmentation.launch.py', 'replay.launch.py'}


def test_each_argument_is_described_once(launch_file):
    for call in calls(tree_of(launch_file), 'DeclareLaunchArgument'):
        description = ast.unparse(call['description'])
        assert len(description) > 20, call[''].value
    names = declared(launch_file)
    assert len(names) == len(set(names))


def test_only_declared_arguments_are_read(launch_file):
    tree = tree_of(launch_file)
    read = {call[''].value for call in calls(tree, 'LaunchConfiguration')}
    read |= {node.slice.value for node in ast.walk(tree)
             if isinstance(node, ast.Subscript) and getattr(node.value, 'id', '') == 'value'
             and isinstance(node.slice, ast.Constant)}
    for name in ('TEXTS', 'SWITCHES', 'OF_CAMERAS'):
        read |= set(constants(tree).get(name, ()))
    assert read and read <= set(declared(launch_file))


def test_arguments_given_to_an_included_file_exist_there(launch_file):
    for call in calls(tree_of(launch_file), 'IncludeLaunchDescription'):
        given = {key.value for node in ast.walk(call['launch_arguments'])
                 if isinstance(node, ast.Dict) for key in node.keys}
        assert given <= set(declared(launch_file))


def test_executables_exist(launch_file):
    entry_points = (ROOT / 'setup.py').read_text(encoding='utf-8')
    for call in calls(tree_of(launch_file), 'Node'):
        if call['package'].value == 'seg_node':
            assert f"'{call['executable'].value} = seg_node." in entry_points


def test_named_files_exist(launch_file):
    """Paths are joined with ``/`` from ``SHARE``, or ``LAUNCH`` below it."""
    bases = {'SHARE': ROOT, 'LAUNCH': ROOT / 'launch'}
    found = set()
    for node in ast.walk(tree_of(launch_file)):
        text = ast.unparse(node) if isinstance(node, ast.BinOp) else ''
        if text.startswith(tuple(f'{base} / ' for base in bases)):
            base, *parts = text.replace("'", '').split(' / ')
            found.add(bases[base].joinpath(*parts))
    assert found and all(path.exists() for path in found), found


def test_arguments_are_parameters_of_the_node():
    found = constants(tree_of(ROOT / 'launch' / 'segmentation.launch.py'))
    assert set(found['TEXTS']) | set(found['SWITCHES']) <= PARAMETERS
    assert set(found['OF_CAMERAS']) <= OF_CAMERAS


def test_presets_name_outputs():
    presets = constants(tree_of(ROOT / 'launch' / 'segmentation.launch.py'))['PRESETS']
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert set(presets) == {'', 'nav2', 'nvblox'}
    for output in {output for preset in presets.values() for output in preset}:
        assert f'| `~/front/{output}` |' in readme


def test_the_example_shows_every_parameter_with_its_default():
    [node] = yaml.safe_load(CONFIG.read_text(encoding='utf-8')).values()
    values = node['ros__parameters']
    cameras = values['cameras']
    assert set(values) == {row.name for row in NODE} | set(cameras)
    for row in NODE:
        if row.name != 'cameras':
            default = [] if row.default == EMPTY else row.default
            assert values[row.name] == default and type(values[row.name]) is type(default)
    for camera in cameras:
        assert set(values[camera]) == OF_CAMERAS


def test_the_node_takes_the_example(tmp_path):
    node = NodeProcess(tmp_path, '--params-file', str(CONFIG), '-r', '__ns:=/car')
    try:
        node.wait_for_log('camera rear: /sensing/camera/rear/image_raw/compressed')
    finally:
        node.process.kill()
        node.wait()
    assert 'camera front: /sensing/camera/front/image_raw -> /car/seg_node/front/mask' in node.log


def test_rviz_shows_topics_of_the_node():
    config = yaml.safe_load((ROOT / 'rviz' / 'seg_node.rviz').read_text(encoding='utf-8'))
    topics = {display['Topic']['Value']: display['Topic'] for display in
              config['Visualization Manager']['Displays'] if 'Topic' in display}
    images = ['overlay', 'color_mask', 'drivable']
    assert list(topics) == ['/camera/image_raw', *(f'/seg_node/camera/{name}' for name in
                                                   (*images, *ground.NAMES))]
    assert set(images) <= set(products.NAMES)
    # A map is published once for all who come later.
    assert topics['/seg_node/camera/drivable_grid']['Durability Policy'] == 'Transient Local'


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that launches, with a node that only tells its command line."""
    pytest.importorskip('launch_ros', reason='the wheels have no launch_ros; a ROS has')
    share = tmp_path / 'share'
    marker = share / 'ament_index' / 'resource_index' / 'packages' / 'seg_node'
    marker.parent.mkdir(parents=True)
    marker.touch()
    (share / 'seg_node').symlink_to(ROOT)
    told = tmp_path / 'told.json'
    program = tmp_path / 'lib' / 'seg_node' / 'seg_node'
    program.parent.mkdir(parents=True)
    program.write_text(f'#!{sys.executable}\nimport json, os, sys\n'
                       f'json.dump([sys.argv[1:], dict(os.environ)], open({str(told)!r}, "w"))\n')
    program.chmod(0o755)
    prefixes = filter(None, [str(tmp_path), os.environ.get('AMENT_PREFIX_PATH')])
    monkeypatch.setenv('AMENT_PREFIX_PATH', os.pathsep.join(prefixes))
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), *sys.path]))
    monkeypatch.delenv('FASTDDS_BUILTIN_TRANSPORTS', raising=False)

    def launch(**arguments):
        code = ('import sys; from launch import LaunchService, LaunchDescription;'
                'from launch.actions import IncludeLaunchDescription;'
                'service = LaunchService();'
                'service.include_launch_description(LaunchDescription([IncludeLaunchDescription('
                'sys.argv[1], launch_arguments=[a.split(":=", 1) for a in sys.argv[2:]])]));'
                'sys.exit(service.run())')
        texts = [f'{name}:={value}' for name, value in arguments.items()]
        result = subprocess.run(
            [sys.executable, '-c', code, str(ROOT / 'launch' / 'segmentation.launch.py'), *texts],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, cwd=tmp_path)
        return json.loads(told.read_text()) if told.exists() else None, result.stdout

    return launch


def parameters_of(command):
    """Return what the parameter files of a command line say, later ones on top."""
    merged = {}
    for option, value in zip(command, command[1:], strict=False):
        if option == '--params-file':
            # launch_ros writes lists as Python tuples, which rcl's reader takes for lists
            [section] = yaml.full_load(Path(value).read_text()).values()
            merged.update(section['ros__parameters'])
    return merged


def test_launched_without_arguments_nothing_is_set(installed):
    (command, environment), _ = installed()
    assert parameters_of(command) == {}
    profile = ROOT / 'config' / 'fastdds_shm.xml'
    assert any(Path(environment.get(name, '/')).samefile(profile) for name in
               ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'))


def test_launched_arguments_win_over_the_file(installed):
    (command, _), error = installed(params_file=CONFIG, cameras='front,rear', model='7',
                                    use_sim_time='true', transport='compressed', preset='nav2')
    values = parameters_of(command)
    assert (values['model'], values['use_sim_time'], values['threads']) == ('7', True, 0), error
    assert values['front.transport'] == values['rear.transport'] == 'compressed'
    assert '~/rear/mask:=/segmentation/rear/mask' in command


def test_launched_for_nav2_doubtful_masks_are_withheld_unless_the_file_publishes_them(installed):
    (command, _), error = installed(cameras='front', preset='nav2')
    assert parameters_of(command)['on_doubtful'] == 'withhold_drivable', error
    (command, _), _ = installed(cameras='front', preset='nav2', params_file=CONFIG)
    assert parameters_of(command)['on_doubtful'] == 'publish'


def test_launched_for_nvblox_cameras_are_numbered(installed):
    (command, _), _ = installed(cameras='front, rear', preset='nvblox')
    assert '~/front/camera_info:=/camera_0/mask/camera_info' in command
    assert '~/rear/dynamic_mask:=/camera_1/mask/image' in command


@pytest.mark.parametrize('arguments, message', [
    ({'cameras': 'front,rear', 'image_topic': '/image'}, 'image_topic is for one camera'),
    ({'params_file': CONFIG, 'preset': 'nav2'}, 'for which camera of params_file'),
    ({'use_sim_time': 'maybe'}, 'use_sim_time'), ({'preset': 'nav3'}, 'preset'),
])
def test_launch_refuses_what_makes_no_sense(installed, arguments, message):
    told, error = installed(**arguments)
    assert told is None and message in error
