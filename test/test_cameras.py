"""The ROS side of one camera, in this process: what somebody waits for, and what is forgotten."""

from pathlib import Path
import time

from harness import Client, read_node, RELIABLE
from nav_msgs.msg import OccupancyGrid
import numpy as np
from patience import patience
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image

from seg_node.frame import Frame, Products, Segmentation, StageClock
from seg_node.geometry import fit, Size
from seg_node.health.report import Limits
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import InputSpec
from seg_node.model.taxonomy import load_taxonomy
from seg_node.products import NAMES
from seg_node.ros.cameras import Camera
from seg_node.ros.hints import Hints

SPEC = InputSpec('image', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), size=(32, 48))
SIZE = Size(24, 40)


@pytest.fixture
def client():
    client = Client()
    yield client
    client.close()


@pytest.fixture
def camera():
    """Return an active camera called `camera`, and what lets its node receive."""
    with read_node() as (node, _, settings):
        executor = SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        found = Camera(node, settings.cameras[0], load_taxonomy('camvid11'),
                       lambda output: settings.topic(output, 'camera'), settings.ground, False,
                       lambda frame: None)
        node.trigger_configure()
        node.trigger_activate()
        found.activate()
        found.spin = lambda: executor.spin_once(timeout_sec=0.01)
        yield found
        found.deactivate()
        found.destroy()
        executor.shutdown()


def test_the_device_is_told_the_sizes_of_calibrated_cameras():
    """What it needs an engine for, and what it gets ready for before the first frame."""
    file = Path(__file__).parents[1] / 'calibration' / 'demo_camera.yaml'
    with read_node('-p', 'cameras:=[front, left, rear]', '-p', f'front.calibration:={file}',
                   '-p', f'left.calibration:={file}') as (_, _, settings):
        [size] = settings.wish.cameras
        calibration = settings.cameras[0].calibration
        assert size == Size(calibration.height, calibration.width)


def until(condition):
    end = time.monotonic() + patience(10)
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def products(age_s=0.0, received_ago_s=0.0, **more):
    now_ns = time.time_ns() - round(age_s * 1e9)
    message = ImageMessage(Header(*divmod(now_ns, 10**9), 'cam'), *SIZE, 'bgr8', False, 120,
                           np.zeros(SIZE.pixels * 3, np.uint8))
    frame = Frame('camera', message, time.monotonic_ns() - round(received_ago_s * 1e9))
    labels = np.zeros(SIZE, np.uint8)
    return Products(frame, Segmentation(fit(SPEC, SIZE), labels), {'mask': labels}, **more)


def test_wanted_is_what_has_a_subscriber_now(camera, client):
    assert camera.wanted() == frozenset()
    heard = {name: client.node.create_subscription(
        Image, f'/seg_node/camera/{name}', lambda message: None, RELIABLE)
        for name in ('overlay', 'confidence')}
    until(lambda: camera.wanted() == {'overlay', 'confidence'})
    client.node.destroy_subscription(heard['overlay'])
    until(lambda: camera.wanted() == {'confidence'})
    # Free space is made of two of the images, whether or not anybody hears these.
    grid = client.node.create_subscription(OccupancyGrid, '/seg_node/camera/drivable_grid',
                                           lambda message: None, RELIABLE)
    until(lambda: camera.wanted() == {'confidence', 'mask', 'drivable'})
    client.node.destroy_subscription(grid)
    client.node.destroy_subscription(heard['confidence'])
    until(lambda: camera.wanted() == frozenset())


@pytest.mark.parametrize('name', NAMES)
def test_each_output_is_wanted_by_its_own_topic(camera, client, name):
    client.listen(f'/seg_node/camera/{name}')
    until(lambda: camera.wanted() == {name})


def test_what_a_model_lacks_is_told_and_what_was_not_wanted_yet_is_not(camera, client):
    """Who comes while a frame is in hand is not told of that frame that the output is missing."""
    limits = Limits(image_timeout_s=60.0, max_age_s=60.0, min_rate_hz=0.0)
    client.listen('/seg_node/camera/entropy')
    until(lambda: camera.wanted() == {'entropy'})
    camera.deliver(products(), StageClock())
    assert camera.judge(limits).names == ()
    camera.deliver(products(missing=frozenset({'entropy'})), StageClock())
    found = camera.judge(limits)
    assert found.names == ('lacking',) and 'export it with its logits' in found.texts[0]
    camera.deliver(products(), StageClock())
    assert camera.judge(limits).names == ()


def test_hints_name_others_topics_and_ask_for_all_of_them_once_a_second(client, monkeypatch):
    namesake = rclpy.create_node(client.node.get_name(), namespace='/rear',
                                 context=client.context)
    namesake.create_publisher(CameraInfo, '/rear/info', 1)
    client.node.create_publisher(CameraInfo, '/own/info', 1)
    until(lambda: client.node.count_publishers('/rear/info')
          and client.node.count_publishers('/own/info'))
    asked = []
    real = client.node.get_topic_names_and_types
    monkeypatch.setattr(client.node, 'get_topic_names_and_types',
                        lambda: asked.append(None) or real())
    start = time.monotonic()
    hints = Hints(client.node, '/camera/image_raw')
    assert {hints.infos() for _ in range(20)} == {'/rear/info'}
    assert len(asked) <= 1 + (time.monotonic() - start)
    namesake.destroy_node()


def test_latency_counts_from_the_stamp_and_processing_from_the_receipt(camera):
    for _ in range(3):
        camera.deliver(products(age_s=50.0, received_ago_s=20.0), StageClock())
    values = camera.health.values()
    assert 50e3 <= float(values['latency_ms_p50']) < 50e3 + patience(1e3)
    assert 20e3 <= float(values['processing_ms_p50']) < 20e3 + patience(1e3)


def test_a_camera_info_is_not_kept_over_an_activation(camera, client):
    infos = client.listen('/seg_node/camera/camera_info', CameraInfo)
    info = CameraInfo(height=24, width=40, k=[50., 0, 20, 0, 50, 12, 0, 0, 1],
                      p=[50., 0, 20, 0, 0, 50, 12, 0, 0, 0, 1, 0],
                      r=[1., 0, 0, 0, 1, 0, 0, 0, 1], d=[0.] * 5, distortion_model='plumb_bob')

    def delivered():
        client.send('/camera/camera_info', info, CameraInfo)
        camera.spin()
        camera.deliver(products(), StageClock())
        client.spin(0.05)
        return bool(infos)
    until(delivered)
    camera.deactivate()
    camera.activate()
    client.spin(0.3)
    infos.clear()
    for _ in range(5):
        camera.deliver(products(), StageClock())
        client.spin(0.1)
    assert not infos
