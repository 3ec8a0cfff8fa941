"""Where a camera's images may be, when nobody publishes them where they were looked for."""

from rclpy.node import Node

from .topics import COMPRESSED

_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
_MOST = 3  # topics that are named


def sibling(node: Node, topic: str) -> str:
    """Return the topic of the other transport of the same images, if it is published; else ''."""
    other = topic.removesuffix(COMPRESSED) if topic.endswith(COMPRESSED) else topic + COMPRESSED
    return other if node.count_publishers(other) else ''


def elsewhere(node: Node, topic: str) -> str:
    """
    Return image topics that others publish, '' = none.

    Those that differ in their namespace only come first, and alone.
    """
    own = (node.get_name(), node.get_namespace())
    found = [name for name, types in node.get_topic_names_and_types()
             if any(kind in _TYPES for kind in types) and any(
                 (info.node_name, info.node_namespace) != own
                 for info in node.get_publishers_info_by_topic(name))]
    last = topic.rsplit('/', 2)[-2:]
    near = [name for name in found if name.rsplit('/', 2)[-2:] == last]
    shown = near or found
    more = ', ...' if len(shown) > _MOST else ''
    return ', '.join(shown[:_MOST]) + more


def infos(node: Node) -> str:
    """Return topics of camera_info that are published, '' = none."""
    found = [name for name, types in node.get_topic_names_and_types()
             if 'sensor_msgs/msg/CameraInfo' in types and any(
                 info.node_name != node.get_name()
                 for info in node.get_publishers_info_by_topic(name))]
    return ', '.join(found[:_MOST])
