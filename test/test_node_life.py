"""How the real node starts, reports, refuses and ends."""

from dataclasses import replace
import hashlib
import os
from pathlib import Path
import signal
import struct
import time

from builtin_interfaces.msg import Time
import cv2
import fault_models
from harness import all_counted, Diagnostics, image_cdr, MODELS, NodeProcess, START_S, values
from hypothesis import given, settings, strategies as st
from lifecycle_msgs.msg import Transition
import numpy as np
from patience import Delay, patience
import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
import yaml

from seg_node.image import wire
from seg_node.ros import ground
from seg_node.ros.main import leave, main
from seg_node.ros.node import SegNode
from seg_node.ros.parameter_table import CAMERA, NODE

PALETTE = MODELS / 'palette_cityscapes19'
STREET = cv2.resize(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8), (160, 120),
                    interpolation=cv2.INTER_CUBIC)  # with structure, or it would be blind
SOAK_S = float(os.environ.get('SEG_NODE_SOAK_S', 5))
OK, WARN, ERROR, STALE = (bytes([level]) for level in range(4))


def broken_file(folder: Path) -> Path:
    """Write a model that is not ONNX but has a card that fits its bytes."""
    fault_models.write(folder)
    data = b'this is not a network'
    (folder / 'model.onnx').write_bytes(data)
    card = yaml.safe_load((folder / 'card.yaml').read_text())
    card.update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    (folder / 'card.yaml').write_text(yaml.safe_dump(card))
    return folder


def other_output(folder: Path) -> Path:
    """Write a card that names an output which the model does not have."""
    fault_models.write(folder)
    card = yaml.safe_load((folder / 'card.yaml').read_text())
    card['outputs'][0]['name'] = 'scores'
    (folder / 'card.yaml').write_text(yaml.safe_dump(card))
    return folder


@pytest.mark.parametrize('parameters, words', [
    ({'model': other_output}, ['scores', 'logits']),
    ({'backend': 'tensorrt'}, ['no NVIDIA GPU', 'use backend: onnxruntime']),
])
def test_wrong_configuration_ends_with_the_mend(tmp_path, monkeypatch, parameters, words):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    parameters = {name: value(tmp_path / 'made') if callable(value) else value
                  for name, value in parameters.items()}
    with NodeProcess(tmp_path, **{'model': PALETTE, **parameters}) as node:
        code = node.wait()
        # 3: what only the device tells may be otherwise at the next start
        assert code == (3 if 'no NVIDIA GPU' in node.log else 1), node.log
        lines = [line for line in node.log.splitlines() if 'failed: ' in line]
        assert len(lines) == 1 and 'FATAL' in lines[0], node.log
        rest = node.log[node.log.index('failed: '):]
        for word in words:
            assert word in rest, rest
        assert 'Traceback' not in node.log


class Refused:
    """A node in this process, and why it wants to end after its start."""

    def __init__(self, folder, monkeypatch, *arguments, **parameters):
        monkeypatch.setenv('XDG_STATE_HOME', str(folder))
        given = [f'{name.replace("__", ".")}:={value}' for name, value in parameters.items()]
        rclpy.init(args=['--ros-args', *arguments,
                         *(word for text in given for word in ('-p', text))])
        try:
            node = SegNode('', leave)
            try:
                node.start()
                self.end = node.end
            finally:
                node.shut_down()
                assert node.release_device(10.0)
                node.destroy_node()
        finally:
            rclpy.shutdown()


@pytest.mark.parametrize('parameters, words', [
    ({'model': broken_file}, ['model.onnx is no ONNX file']),
    ({'model': 'no_such_model'}, ['no_such_model', 'deeplabv3plus_lite0_camvid']),
    ({'threads': '[]'}, ['threads is []', 'must be an integer']),
    ({'modle': 'x'}, ['parameter modle is unknown', 'did you mean model']),
    ({'camera__image_topik': 'x'}, ['camera.image_topik is unknown', 'camera.image_topic']),
    ({'camere__image_topic': 'x'}, ['camere.image_topic is unknown', 'camera.image_topic']),
    ({'camera__nosuch': 1}, ['camera.nosuch is unknown', 'known: camera.image_topic']),
    ({'camera__image_topic': '/x{y}'}, ["camera.image_topic is '/x{y}'", 'substitution']),
    ({'camera__image_topic': '//x'}, ["camera.image_topic is '//x'", "repeated '/'", '/front/']),
    ({'camera__camera_info_topic': '9x'}, ["camera.camera_info_topic is '9x'", 'a number']),
    ({'image_timeout_s': 3}, ['image_timeout_s is 3', 'must be a double', 'write 3.0']),
    ({'threads': -1}, ['threads is -1', '0 .. 256']),
    ({'backend': 'cuda'}, ["backend is 'cuda'", 'allowed: auto | onnxruntime | openvino']),
    ({'backend': 'tensorrt', 'precision': 'fp8'}, ["precision is 'fp8'", 'auto | fp16 | fp32']),
    ({'backend': 'onnxruntime', 'providers': '[CudaProvider]'}, ['CudaProvider', 'allowed:']),
    ({'providers': '[CudaProvider]'}, ['CudaProvider', 'allowed:']),  # auto takes them, too
    ({'backend': 'tensorrt', 'providers': '[CUDAExecutionProvider]'},
     ["backend is 'tensorrt'", 'does not use it']),
    ({'cameras': '[front, front]'}, ["'front' stands there more than once"]),
    ({'cameras': '[2nd]'}, ["'2nd'", 'beginning with a letter']),
    ({'camera__transport': 'theora'}, ["camera.transport is 'theora'", 'raw | compressed']),
    ({'output_width': 100}, ['output_width and output_height are 100 and 0']),
    ({'taxonomy': 'mapillary'}, ['mapillary', 'autoware16']),
    ({'cameras': '[]'}, ['parameter cameras is empty', '[front]']),
    ({'drivable_classes': '[road, grass]'}, ['grass', 'terrain']),
    ({'drivable_classes': '[road, sidewalk, road]'}, ["'road' stands there more than once"]),
    ({'gpu_id': 99}, ['parameter gpu_id is 99; it must be an integer, allowed: 0 .. 63\n']),
    ({'grid_cell_m': '.nan'}, ['grid_cell_m is nan; it must be a double, allowed: 0.02 .. 2\n']),
    ({'model': './nowhere'}, [f'no model card at nowhere (from {os.getcwd()})']),
    ({'camera__image_topic': '/seg_node/camera/mask', 'camera__transport': 'compressed'},
     ["camera.image_topic leads to '/seg_node/camera/mask/compressed'", 'publishes itself']),
])
def test_what_is_refused_is_told_with_the_mend(tmp_path, monkeypatch, parameters, words):
    parameters = {name: value(tmp_path / 'made') if callable(value) else value
                  for name, value in parameters.items()}
    end = Refused(tmp_path, monkeypatch, **{'model': PALETTE, **parameters}).end
    assert end.code == 1
    for word in words:
        assert word in end.reason + '\n'


@pytest.mark.parametrize('topic', ['mask', 'color_mask', 'autoware_mask', 'camera_info', 'state',
                                   *ground.NAMES])
@pytest.mark.parametrize('parameter, renamed', [('image_topic', False), ('image_topic', True),
                                                ('camera_info_topic', False)])
def test_a_node_does_not_listen_to_itself(tmp_path, monkeypatch, topic, parameter, renamed):
    own, remaps = f'/seg_node/camera/{topic}', ()
    if renamed:
        own, remaps = '/elsewhere', ('-r', f'/elsewhere:={own}')
    end = Refused(tmp_path, monkeypatch, *remaps, model=PALETTE,
                  **{f'camera__{parameter}': own}).end
    assert end.code == 1 and end.reason == (
        f'configure failed: parameter camera.{parameter} leads to {own!r}, which this node '
        'publishes itself: give the topic of the camera')


@pytest.mark.parametrize('arguments, words', [
    (['--params-file', '/nowhere.yaml'], ['/nowhere.yaml cannot be read', 'No such file']),
    (['--params-file', 'broken'], ['broken.yaml', 'line_num 3']),
    (['--params-file', 'other'], ['other.yaml is for /other', 'Call its section /**/seg_node']),
    (['--model', 'x'], ['--model x: unknown', '-p name:=value']),
    (['-r', 'mask'], ["remap rule: '-r mask'"]),
    (['-p', 'threads:=[1, x]'], ['threads:=[1, x]']),
    (['-p', 'use_sim_time:=maybe'], ["use_sim_time is 'maybe'; it must be a bool"]),
])
def test_wrong_ros_arguments_end_with_one_line(tmp_path, arguments, words):
    (tmp_path / 'broken.yaml').write_text('seg_node:\n  ros__parameters:\n    cameras: [1, x]\n')
    (tmp_path / 'other.yaml').write_text('other:\n  ros__parameters:\n    model: x\n')
    arguments = [str(tmp_path / f'{word}.yaml') if word in ('broken', 'other') else word
                 for word in arguments]
    if arguments[0] == '--model':  # not for ROS
        arguments = ['--', *arguments]
    with NodeProcess(tmp_path, *arguments) as node:
        assert node.wait() == 1
        line = node.log.strip().splitlines()[-1]
        assert 'seg_node: ' in line or '[seg_node]: ' in line, node.log
        assert all(word in line for word in words), node.log
        assert 'Traceback' not in node.log and '/project/src' not in line


def test_help_helps(capsys):
    assert main(['--help']) == 0
    told = capsys.readouterr().out
    assert told.startswith('usage: seg_node --ros-args') and '~/<camera>/mask' in told
    for row in (*NODE, *(replace(row, name=f'<camera>.{row.name}') for row in CAMERA)):
        assert f'  {row.name} ({row.kind}, ' in told


CALIBRATION = CameraInfo(height=120, width=160, distortion_model='plumb_bob',
                         k=[100.0, 0.0, 79.5, 0.0, 100.0, 59.5, 0.0, 0.0, 1.0],
                         p=[100.0, 0.0, 79.5, 0.0, 0.0, 100.0, 59.5, 0.0, 0.0, 0.0, 1.0, 0.0],
                         d=[0.0] * 5)


def transition(client, number):
    assert client.change_state(number), client.state()


def test_lifecycle_by_hand(client, tmp_path):
    """Each transition frees and restores what it should; a mended parameter is taken."""
    masks = client.listen('/seg_node/hand/mask')
    bad = {'model': 'nowhere', 'cameras': '[hand]', 'autostart': False}
    with NodeProcess(tmp_path, **bad) as node:
        refused = set_parameter(client, 'executor', 'auto')
        assert not refused.successful and 'read-only' in refused.reason
        assert client.state() == 'unconfigured'
        assert client.diagnostics('node').message == 'unconfigured'
        assert not client.change_state(Transition.TRANSITION_CONFIGURE)
        assert client.state() == 'unconfigured'
        status = client.diagnostics('node', until=lambda status: status.level == ERROR)
        assert 'nowhere' in status.message
        assert set_parameter(client, 'model', str(PALETTE)).successful
        transition(client, Transition.TRANSITION_CONFIGURE)
        assert client.state() == 'inactive'
        client.diagnostics('hand', until=lambda status: status.message == 'inactive')
        refused = set_parameter(client, 'model', 'other')
        assert not refused.successful and 'cleanup' in refused.reason
        for _ in range(2):
            transition(client, Transition.TRANSITION_ACTIVATE)
            client.handshake('/hand/image_raw', ['/seg_node/hand/mask'], image_cdr(STREET, 1))
            transition(client, Transition.TRANSITION_DEACTIVATE)
            client.spin(0.3)
            masks.clear()
            for _ in range(5):
                client.publishers['/hand/image_raw'].publish(image_cdr(STREET, 2))
                client.spin(0.05)
            assert not masks, 'an inactive node published'
        transition(client, Transition.TRANSITION_CLEANUP)
        assert client.state() == 'unconfigured'
        assert client.spin_until(lambda: not client.node.count_publishers('/seg_node/hand/mask'))
        transition(client, Transition.TRANSITION_CONFIGURE)
        transition(client, Transition.TRANSITION_ACTIVATE)
        client.handshake('/hand/image_raw', ['/seg_node/hand/mask'], image_cdr(STREET, 3))
        transition(client, Transition.TRANSITION_ACTIVE_SHUTDOWN)
        assert client.state() == 'finalized'
        code, seconds = node.interrupt()
        assert code == 0 and seconds < patience(2), node.log


def set_parameter(client, name, value):
    """Set one parameter over ROS; return the node's answer."""
    kinds = {str: (ParameterType.PARAMETER_STRING, 'string_value'),
             float: (ParameterType.PARAMETER_DOUBLE, 'double_value'),
             list: (ParameterType.PARAMETER_BOOL_ARRAY, 'bool_array_value')}  # `ros2 param set []`
    kind, field = kinds[type(value)]
    request = SetParameters.Request()
    request.parameters = [Parameter(name=name, value=ParameterValue(
        type=kind, **{field: value}))]
    return client.call(SetParameters, '/seg_node/set_parameters', request).results[0]


def test_what_is_set_is_applied_and_what_was_told_is_forgotten(client, tmp_path):
    """
    Empty lists, the period of the diagnostics, the overlay; camera_info of an earlier life.

    With the executor of older rclpys.
    """
    said = Diagnostics(client)
    masks, overlays = (client.listen(f'/seg_node/set/{name}') for name in ('mask', 'overlay'))
    infos = client.listen('/seg_node/set/camera_info', CameraInfo)
    grey = np.full((120, 160, 3), 90, np.uint8)

    def answer(stamp):
        client.send('/set/image_raw', image_cdr(grey, stamp))
        assert client.spin_until(lambda: all(
            any(message.header.stamp_ns == stamp for message in found)
            for found in (masks, overlays)))
        return overlays[-1].data.reshape(120, 160, 3)
    with NodeProcess(tmp_path, model=PALETTE, cameras='[set]', autostart=False,
                     executor='waitset', drivable_classes='[]', overlay_alpha=0.0,
                     max_age_s=3600.0):
        assert set_parameter(client, 'drivable_classes', []).successful
        assert set_parameter(client, 'diagnostics_period_s', 0.25).successful
        transition(client, Transition.TRANSITION_CONFIGURE)
        transition(client, Transition.TRANSITION_ACTIVATE)
        client.handshake('/set/image_raw', ['/seg_node/set/mask', '/seg_node/set/overlay'],
                         image_cdr(grey, 1))
        assert (answer(2) == grey).all()
        assert set_parameter(client, 'overlay_alpha', 1.0).successful
        colours = answer(3)
        assert not (colours == grey).any(axis=2).all()
        assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 1

        def info_comes():
            client.send('/set/camera_info', CALIBRATION, CameraInfo)
            answer(4)
            return client.spin_until(lambda: bool(infos), 0.3)
        assert client.spin_until(info_comes)
        transition(client, Transition.TRANSITION_DEACTIVATE)
        transition(client, Transition.TRANSITION_ACTIVATE)
        infos.clear()
        masks.clear()
        client.handshake('/set/image_raw', ['/seg_node/set/mask'], image_cdr(grey, 5))
        answer(6)
        client.spin(0.5)
        assert not infos, 'a calibration of before the deactivation was used'
        transition(client, Transition.TRANSITION_DEACTIVATE)
        client.diagnostics('set', until=lambda status: status.message == 'inactive')
        start = time.monotonic()
        assert client.spin_until(lambda: len(said.of('set', start)) > 8, START_S)
        # By the middle one: what changes is said at once, and one may be held up.
        times = [moment for moment, _ in said.of('set', start)]
        assert 0.2 < np.median(np.diff(times)) < 0.4, np.diff(times)


def test_some_cameras_of_a_file_a_remapped_mask_and_silent_cameras(client, tmp_path):
    """What a file says of a camera that is not used does no harm; the log names real topics."""
    with NodeProcess(tmp_path, '-r', '~/front/mask:=/segmentation/mask', model=PALETTE,
                     image_timeout_s=0.5, diagnostics_period_s=0.2,
                     cameras='[front, strict, odd]', strict__reliable=True,
                     rear__image_topic='/rear') as node:
        node.wait_for_log('camera front: /front/image_raw -> /segmentation/mask')
        assert client.spin_until(lambda: client.node.count_publishers('/segmentation/mask') == 1)
        status = client.diagnostics('front', until=lambda status: status.level == ERROR)
        assert 'no image on /front/image_raw for' in status.message
        assert 'nobody publishes it' in status.message
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        client.node.create_publisher(Image, '/strict/image_raw', best_effort)
        client.diagnostics('strict', until=lambda status: (
            'a publisher with incompatible QoS exists' in status.message
            and 'strict.reliable' in status.message))
        client.node.create_publisher(CompressedImage, '/odd/image_raw', 1)
        client.diagnostics('odd', until=lambda status: (
            'sensor_msgs/msg/CompressedImage, not sensor_msgs/msg/Image' in status.message))
        assert client.node.count_subscribers('/odd/image_raw') == 1
        assert client.node.count_subscribers('/rear') == 0


def test_diagnostics_and_parameters_tell_what_runs(client, tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    with NodeProcess(tmp_path, model=PALETTE, cameras='[told]', threads=1) as node:
        node.wait_for_log('camera told')
        found = values(client.diagnostics('node', until=lambda status: status.message == 'active'))
        assert found['model'] == 'palette_cityscapes19' and found['device'] == 'cpu'
        assert found['backend'].endswith(', 1 threads')
        assert found['backend_choice'].startswith('auto chose ')
        assert '; not TensorRT: ' in found['backend_choice']
        [line] = [line for line in node.log.splitlines() if 'auto chose' in line]
        assert line.endswith(': there is no GPU here') and 'not TensorRT' not in line
        assert found['state'] == 'active' and found['transport']
        request = DescribeParameters.Request(names=['threads', 'told.transport'])
        threads, transport = client.call(DescribeParameters, '/seg_node/describe_parameters',
                                         request).descriptors
        assert 'Threads of the network' in threads.description
        assert threads.integer_range[0].to_value == 256
        assert 'raw, compressed' in transport.additional_constraints
        assert set_parameter(client, 'overlay_alpha', 0.8).successful
        assert not set_parameter(client, 'overlay_alpha', 1.8).successful
        client.listen('/seg_node/told/mask')
        client.handshake('/told/image_raw', ['/seg_node/told/mask'], image_cdr(STREET, 1))
        status = client.diagnostics('told', until=lambda status: status.level == WARN)
        assert 'replaying without use_sim_time?' in status.message
        client.diagnostics('told', until=lambda status: status.level == STALE)


def test_hundreds_of_malformed_messages(client, tmp_path):
    """None crashes the node, none gives a mask, each is counted; a good one still works."""
    masks = client.listen('/seg_node/fuzz/mask')
    with NodeProcess(tmp_path, model=PALETTE, cameras='[fuzz]', fuzz__reliable=True) as node:
        client.handshake('/fuzz/image_raw', ['/seg_node/fuzz/mask'], image_cdr(STREET, 1))
        sent = 0

        @settings(max_examples=400, deadline=None, database=None)
        @given(malformed_images())
        def send_all(cdr):
            nonlocal sent
            sent += 1
            client.send('/fuzz/image_raw', cdr)
            client.executor.spin_once(timeout_sec=0)
        send_all()
        assert sent >= 400
        client.spin(1.0)
        assert node.process.poll() is None, node.log
        assert not masks
        found = values(client.diagnostics('fuzz', until=all_counted))
        assert int(found['refused']) >= sent / 2, found  # the rest was replaced by newer ones
        assert 'Traceback' not in node.log
        client.exchange('/fuzz/image_raw', image_cdr(STREET, 5), '/seg_node/fuzz/mask', 5)


@st.composite
def malformed_images(draw):
    """Draw image messages that are well-formed CDR (the middleware sees to it) but wrong."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    header = wire.Header(draw(st.integers(0, 2**31 - 1)), draw(st.integers(0, 2**32 - 1)),
                         draw(st.text(st.characters(codec='ascii', exclude_characters='\0'),
                                      max_size=20)))
    data = draw(st.binary(max_size=300))
    kind = draw(st.integers(0, 4))
    if kind == 0:  # no such encoding
        encoding = draw(st.text(st.characters(codec='ascii', exclude_characters='\0'),
                                max_size=12).filter(lambda text: text != 'mono8'))
        return wire.build_image(header, height, width, f'{encoding}?', data, step=width * 3)
    if kind == 1:  # too little data
        return wire.build_image(header, height, width, 'bgr8', data[:height * width * 3 - 1],
                                step=width * 3)
    if kind == 2:  # rows shorter than the image is wide
        return wire.build_image(header, height, width, 'rgb8', bytes(height * width * 3),
                                step=draw(st.integers(0, width * 3 - 1)))
    if kind == 3:  # nothing to see
        return wire.build_image(header, *draw(st.sampled_from([(0, 9), (9, 0), (0, 0)])),
                                'bgr8', data, step=27)
    return wire.build_image(header, draw(st.integers(20_000, 2**32 - 1)),
                            draw(st.integers(20_000, 2**32 - 1)), 'bgr8', data,
                            step=draw(st.integers(0, 2**32 - 1)))


def test_a_clean_end_under_load(client, tmp_path):
    mask = '/seg_node/end/mask'
    client.listen(mask)
    with NodeProcess(tmp_path, model=PALETTE, cameras='[end]') as node:
        image = np.zeros((720, 1280, 3), np.uint8)
        client.handshake('/end/image_raw', [mask], image_cdr(image, 1))
        for _ in range(10):
            client.send('/end/image_raw', image_cdr(image, 2))
            client.spin(0.03)
        ends_clean(node, signal.SIGTERM)


def ends_clean(node, number):
    """End a node at work by a signal: soon, with nothing to complain of and nothing left."""
    segments = shared_memory(node.process.pid) - shared_memory('self')
    assert segments
    start = time.monotonic()
    node.process.send_signal(number)
    assert node.wait(20) == 0, node.log
    assert time.monotonic() - start < patience(2)
    assert f'ended by {signal.Signals(number).name}' in node.log.splitlines()[-1]
    for word in ('Traceback', 'rror', 'WARN'):
        assert word not in node.log, node.log
    left = {segment for segment in segments if segment.exists()}
    assert not left, node.log


def shared_memory(pid: object) -> set[Path]:
    """Return the shared-memory files that a process has mapped."""
    maps = Path(f'/proc/{pid}/maps').read_text()
    return {Path(line.split()[-1]) for line in maps.splitlines() if '/dev/shm/' in line}


def test_overload_drops_frames_and_keeps_latency_flat(client, tmp_path):
    """A camera at three times the node's speed: the newest frames win, memory stays flat."""
    masks = client.listen('/seg_node/fast/mask')
    with NodeProcess(tmp_path, model=big_palette(tmp_path / 'big'), cameras='[fast]',
                     threads=1) as node:
        image = np.zeros((720, 1280, 3), np.uint8)
        client.handshake('/fast/image_raw', ['/seg_node/fast/mask'], image_cdr(image, 1))
        run_for(client, node, masks, 2.0)  # until memory has settled
        before = values(client.diagnostics('fast', until=all_counted))
        memory_mb = node.memory_mb()
        sent, came, delay = run_for(client, node, masks, SOAK_S)
        after = values(client.diagnostics('fast', until=all_counted))
        counts = {key: int(after[key]) - int(before[key])
                  for key in ('received', 'segmented', 'dropped', 'refused')}
        came_s, latencies_s = np.array(came).T
        # What two frames took at that moment, as the machine was then.
        two_frames_s = came_s[2:] - came_s[:-2]
        ratios = latencies_s[2:] / (two_frames_s / 2)
        figures = (f'{sent} sent, {counts}, {two_frames_s.mean() * 500:.1f} ms a frame; latency '
                   f'p50 {np.percentile(latencies_s, 50) * 1e3:.1f} '
                   f'p99 {np.percentile(latencies_s, 99) * 1e3:.1f} ms, in frames '
                   f'p50 {np.percentile(ratios, 50):.2f} p90 {np.percentile(ratios, 90):.2f}; '
                   f'memory {memory_mb:.0f} -> {node.memory_mb():.0f} MB; {delay.worst_s:.2f} s '
                   'held up')
        print(figures)
        # While it has no core, more images come than its queue holds.
        assert counts['received'] >= 0.95 * sent * (1 - 3 * delay.worst_s / SOAK_S), figures
        assert counts['dropped'] > 0.4 * counts['received'], figures
        # A short run has too few frames for a p99 on a machine that others use, too.
        assert np.percentile(ratios, 99 if SOAK_S >= 60 else 90) < 2.5, figures
        assert node.memory_mb() < memory_mb + 30, figures
        ends_clean(node, signal.SIGINT)


def run_for(client, node, masks, seconds):
    """
    Publish three images for each that is answered.

    :returns: how many were sent, (when it came, its latency) of each answer, and the delay.
    """
    image = np.zeros((720, 1280, 3), np.uint8)
    cdr = bytearray(image_cdr(image, 0))
    sent, came, delay = {}, [], Delay(node.process.pid)
    now = due = start = time.monotonic()
    masks.clear()
    while now - start < seconds:
        if now >= due:
            cdr[4:12] = struct.pack('<iI', 1000, len(sent))
            sent[1000 * 10**9 + len(sent)] = now
            client.send('/fast/image_raw', bytes(cdr))
            last = [moment for moment, _ in came[-8:]]
            frame_s = (last[-1] - last[0]) / (len(last) - 1) if len(last) == 8 else 0.03
            due = now + frame_s / 3
        client.executor.spin_once(timeout_sec=max(0.0, min(due - now, 0.005)))
        now = time.monotonic()
        came += [(now, now - sent[mask.header.stamp_ns]) for mask in masks
                 if mask.header.stamp_ns in sent]
        masks.clear()
        delay.look()
    return len(sent), came, delay


def big_palette(folder):
    """Write a palette model that works on 720 rows: slow enough to be overtaken."""
    return fault_models.write(folder, input={**yaml.safe_load((PALETTE / 'card.yaml').read_text())
                                     ['input'], 'short_side': 720})


def test_simulated_time(client, tmp_path):
    """With use_sim_time ages follow /clock, also when it jumps back."""
    client.listen('/seg_node/sim/mask')
    with NodeProcess(tmp_path, model=PALETTE, cameras='[sim]', use_sim_time=True,
                     diagnostics_period_s=0.2) as node:
        node.wait_for_log('camera sim')
        client.handshake('/sim/image_raw', ['/seg_node/sim/mask'], image_cdr(STREET, 1))
        for second in (1000, 2000, 500):
            start, due = time.monotonic(), [0.0]
            def fresh(status, start=start, due=due, second=second):
                now = time.monotonic()
                if now > due[0]:
                    due[0] = now + 0.03
                    now_ns = round((second + now - start) * 1e9)
                    client.send('/clock', Clock(clock=Time(sec=now_ns // 10**9,
                                                           nanosec=now_ns % 10**9)), Clock)
                    client.send('/sim/image_raw', image_cdr(STREET, now_ns - 50_000_000))
                return (status.level == OK
                        and 40 < float(values(status).get('input_age_ms_p50', '1e9')) < 90)
            client.diagnostics('sim', until=fresh, timeout_s=60)
