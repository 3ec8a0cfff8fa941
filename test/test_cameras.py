"""The ROS side of one camera, in this process: what somebody waits for, and what is forgotten."""

from pathlib import Path
import time

from harness import Client, RELIABLE
from nav_msgs.msg import OccupancyGrid
import numpy as np
from patience import patience
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image

from seg_node.frame import Frame, Products, Segmentation, StageClock
from seg_node.geometry import fit, Size
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import InputSpec
from seg_node.model.taxonomy import load_taxonomy
from seg_node.products import NAMES
from seg_node.ros.cameras import Camera
from seg_node.ros.parameter_table import CAMERA
from seg_node.ros.parameters import declare
from seg_node.ros.presets import NO_PRESET
from seg_node.ros.settings import read

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
    context = rclpy.Context()
    rclpy.init(context=context)
    node = LifecycleNode('seg_node', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    assert not declare(node) and not declare(node, CAMERA, 'camera.')
    settings = read(node, NO_PRESET)
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
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_the_device_is_told_the_sizes_of_calibrated_cameras():
    """What it needs an engine for, and what it gets ready for before the first frame."""
    context = rclpy.Context()
    rclpy.init(context=context)
    file = str(Path(__file__).parents[1] / 'calibration' / 'demo_camera.yaml')
    node = LifecycleNode('seg_node', context=context, parameter_overrides=[
        Parameter('cameras', value=['front', 'left', 'rear']),
        Parameter('front.calibration', value=file), Parameter('left.calibration', value=file)])
    assert not declare(node)
    for name in ('front', 'left', 'rear'):
        assert not declare(node, CAMERA, f'{name}.')
    settings = read(node, NO_PRESET)
    [size] = settings.wish.cameras
    calibration = settings.cameras[0].calibration
    assert size == Size(calibration.height, calibration.width)
    node.destroy_node()
    rclpy.shutdown(context=context)


def until(condition):
    end = time.monotonic() + patience(10)
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def products(age_s=0.0, received_ago_s=0.0):
    now_ns = time.time_ns() - round(age_s * 1e9)
    message = ImageMessage(Header(*divmod(now_ns, 10**9), 'cam'), *SIZE, 'bgr8', False, 120,
                           np.zeros(SIZE.pixels * 3, np.uint8))
    frame = Frame('camera', message, time.monotonic_ns() - round(received_ago_s * 1e9))
    labels = np.zeros(SIZE, np.uint8)
    return Products(frame, Segmentation(fit(SPEC, SIZE), labels), {'mask': labels})


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
