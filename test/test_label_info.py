"""The class names as a message: the real vision_msgs type, or JSON where there is none."""

import ctypes
import json
import sys

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header, String

from seg_node.model.taxonomy import load_taxonomy
from seg_node.playback.definitions import serialized
from seg_node.ros.label_info import has_vision_msgs, label_info

TABLE = load_taxonomy('camvid11')


def test_with_vision_msgs(message_types):
    from vision_msgs.msg import LabelInfo
    message = label_info(TABLE)
    assert has_vision_msgs() and isinstance(message, LabelInfo)
    assert [(entry.class_id, entry.class_name) for entry in message.class_map] == list(
        enumerate(TABLE.names))


def test_without_vision_msgs(monkeypatch):
    monkeypatch.setitem(sys.modules, 'vision_msgs', None)
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', None)
    message = label_info(TABLE)
    assert not has_vision_msgs() and isinstance(message, String)
    road = json.loads(message.data)['class_map'][3]
    assert road == {'class_id': 3, 'class_name': 'Road', 'colour_rgb': [128, 64, 128],
                    'drivable': True, 'dynamic': False}


def fill_what_is_free(value):
    """Let what this process allocates next hold a value, as what it freed before may."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = (ctypes.c_void_p,)
    libc.memset.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    held = [(libc.malloc(size), size) for size in range(16, 2048, 16) for _ in range(7)]
    for place, size in held:
        libc.memset(place, value, size)
        libc.free(place)


def test_equal_messages_are_equal_bytes_in_a_bag(message_types):
    info = CameraInfo(header=Header(frame_id='front'), width=64, d=[0.1] * 5)
    for message in (label_info(TABLE), info):
        found = set()
        for value in (0x5a, 0xa5):
            fill_what_is_free(value)
            found.add(serialized(message))
        [cdr] = found
        assert deserialize_message(cdr, type(message)) == message
