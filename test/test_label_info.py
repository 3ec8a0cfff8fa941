"""The class names as a message. vision_msgs is in no wheel, so its two types are stood in for."""

from dataclasses import dataclass, field
import json
import sys
from types import ModuleType

from std_msgs.msg import Header, String

from seg_node.model.taxonomy import load_taxonomy
from seg_node.ros.label_info import label_info

TABLE = load_taxonomy('camvid11')


@dataclass
class VisionClass:
    """The fields of vision_msgs/VisionClass."""

    class_id: int = 0
    class_name: str = ''


@dataclass
class LabelInfo:
    """The fields of vision_msgs/LabelInfo."""

    header: Header = field(default_factory=Header)
    class_map: list = field(default_factory=list)
    threshold: float = 0.0


def test_with_vision_msgs(monkeypatch):
    module = ModuleType('vision_msgs.msg')
    module.LabelInfo, module.VisionClass = LabelInfo, VisionClass
    monkeypatch.setitem(sys.modules, 'vision_msgs', ModuleType('vision_msgs'))
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', module)
    topic, message = label_info(TABLE)
    assert topic == 'label_info' and isinstance(message, LabelInfo)
    assert [(entry.class_id, entry.class_name) for entry in message.class_map] == list(
        enumerate(TABLE.names))


def test_without_vision_msgs(monkeypatch):
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', None)
    topic, message = label_info(TABLE)
    assert topic == 'label_info_json' and isinstance(message, String)
    road = json.loads(message.data)['class_map'][3]
    assert road == {'class_id': 3, 'class_name': 'Road', 'colour_rgb': [128, 64, 128],
                    'drivable': True, 'dynamic': False}
