"""Small real recordings for the tests: bags, videos, folders of images."""

import cv2
import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from seg_node.image.wire import build_image, Header
from seg_node.playback.sources import Record

STORE = get_typestore(Stores.ROS2_JAZZY)
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
IMAGE, INFO = '/camera/image_raw', '/camera/camera_info'
LATCHED = Qos(QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
              QosTime(0, 0), QosTime(0, 0), QosLiveliness.AUTOMATIC, QosTime(0, 0), False)


def image_cdr(index, height=24, width=32):
    pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    stamp_ns = START_NS + index * PERIOD_NS
    return build_image(Header(*divmod(stamp_ns, 10**9), 'front'), height, width, 'bgr8', pixels)


def string_cdr(text):
    return bytes(STORE.serialize_cdr(STORE.types['std_msgs/msg/String'](text),
                                     'std_msgs/msg/String'))


def records(count=5):
    """Return what the bags hold: an image and a text each period, in the order of time."""
    found = []
    for index in range(count):
        time_ns = START_NS + index * PERIOD_NS
        found += [Record(IMAGE, time_ns, image_cdr(index)),
                  Record('/note', time_ns + 1000, string_cdr(f'note {index}'))]
    return found


def write_bag(path, messages, *, storage=StoragePlugin.MCAP, mode=CompressionMode.NONE,
              types=None, qos=None, store=STORE):
    types = {IMAGE: 'sensor_msgs/msg/Image', '/note': 'std_msgs/msg/String', **(types or {})}
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for message in messages:
            if message.topic not in connections:
                connections[message.topic] = writer.add_connection(
                    message.topic, types[message.topic], typestore=store,
                    offered_qos_profiles=(qos or {}).get(message.topic, ()))
            writer.write(connections[message.topic], message.time_ns, message.data)
    return path


def picture(index, height=48, width=64):
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)


def write_video(path, count=6, fps=20.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), fps, (64, 48))
    assert writer.isOpened()
    for index in range(count):
        writer.write(picture(index))
    writer.release()
    return path


def folder(tmp_path, suffix='.png', count=12):
    path = tmp_path / 'frames'
    path.mkdir()
    for index in range(count):
        cv2.imwrite(str(path / f'frame{index}{suffix}'), picture(index))
    return path
