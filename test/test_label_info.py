"""The class names as a message: the real vision_msgs type, or JSON where there is none."""

import json
import sys

from std_msgs.msg import String

from seg_node.model.taxonomy import load_taxonomy
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
