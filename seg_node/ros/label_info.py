"""What the ids in a mask mean, as a message: vision_msgs where it is installed, else JSON."""

import json
from typing import Any

from std_msgs.msg import String

from ..model.taxonomy import ClassTable, UNLABELLED
from .topics import beside


def has_vision_msgs() -> bool:
    """Return whether LabelInfo can be published."""
    try:
        import vision_msgs.msg  # noqa: F401
    except ImportError:
        return False
    return True


def label_info(classes: ClassTable) -> Any:
    """Return the message that describes a class table: vision_msgs/LabelInfo or a String."""
    try:
        from vision_msgs.msg import LabelInfo, VisionClass
    except ImportError:
        return String(data=json.dumps(_as_dict(classes)))
    message = LabelInfo()
    message.class_map = [VisionClass(class_id=entry.id, class_name=entry.name)
                         for entry in classes.classes if not entry.void]
    return message


def topic_beside(topic: str, message: Any) -> str:
    """Return the topic for such a message, given that of a LabelInfo; a String has its own."""
    return beside(topic, 'label_info_json') if isinstance(message, String) else topic


def _as_dict(classes: ClassTable) -> dict[str, Any]:
    return {'taxonomy': classes.name, 'unlabelled': UNLABELLED, 'class_map': [
        {'class_id': entry.id, 'class_name': entry.name, 'colour_rgb': list(entry.colour),
         'drivable': entry.drivable, 'dynamic': entry.dynamic}
        for entry in classes.classes if not entry.void]}
