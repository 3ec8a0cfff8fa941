"""What the ids in a mask mean, as a message: vision_msgs where it is installed, else JSON."""

import json
from typing import Any

from std_msgs.msg import String

from ..model.taxonomy import ClassTable, UNLABELLED


def label_info(classes: ClassTable) -> tuple[str, Any]:
    """
    Return the topic's last name and the message that describe a class table.

    ``label_info`` (vision_msgs/LabelInfo) or ``label_info_json`` (std_msgs/String).
    """
    try:
        from vision_msgs.msg import LabelInfo, VisionClass
    except ImportError:
        return 'label_info_json', String(data=json.dumps(_as_dict(classes)))
    message = LabelInfo()
    message.class_map = [VisionClass(class_id=entry.id, class_name=entry.name)
                         for entry in classes.classes if not entry.void]
    return 'label_info', message


def _as_dict(classes: ClassTable) -> dict[str, Any]:
    return {'taxonomy': classes.name, 'unlabelled': UNLABELLED, 'class_map': [
        {'class_id': entry.id, 'class_name': entry.name, 'colour_rgb': list(entry.colour),
         'drivable': entry.drivable, 'dynamic': entry.dynamic}
        for entry in classes.classes if not entry.void]}
