"""Names of topics: what the node publishes, and where a camera's images and camera_info are."""

from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node

from ..products import NAMES
from .ground import NAMES as GROUND_NAMES

#: Last parts of the topics of each camera.
OUTPUT_NAMES = (*NAMES, 'camera_info', 'label_info', 'state', *GROUND_NAMES)
COMPRESSED = '/compressed'  # image_transport's


def beside(topic: str, name: str) -> str:
    """Return the topic of a name beside another topic."""
    space, slash, _ = topic.rpartition('/')
    return f'{space}{slash}{name}'


def transported(node: Node, topic: str, suffix: str) -> str:
    """
    Return the name to subscribe to for a transport of an image topic.

    A remapping of the image topic holds for its transports, as with image_transport, unless they
    have one of their own.

    :param suffix: '' for raw images.
    """
    if not suffix or _is_remapped(node, topic + suffix):
        return topic + suffix
    return str(node.resolve_topic_name(topic)) + suffix


def info_topic(node: Node, topic: str) -> str:
    """
    Return the name to subscribe to for the camera_info that belongs to an image topic.

    It lies beside the topic that the images really come from, remappings included, unless it has
    a remapping of its own.
    """
    plain = beside(topic, 'camera_info')
    if _is_remapped(node, plain):
        return plain
    return beside(str(node.resolve_topic_name(topic)), 'camera_info')


def _is_remapped(node: Node, topic: str) -> bool:
    full = expand_topic_name(topic, node.get_name(), node.get_namespace())
    return bool(node.resolve_topic_name(topic) != full)
