"""Where a camera's images and camera_info may be, when they are not where they were looked for."""

from collections.abc import Callable, Collection
import time

from rclpy.node import Node

from .topics import COMPRESSED

_IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
_INFOS = ('sensor_msgs/msg/CameraInfo',)
_MOST = 3  # topics that are named
_PERIOD_S = 1.0  # between two looks: one asks of every topic in the graph


class Hints:
    """
    Looks around when it is asked to, once a second at the most.

    :param topic: where the images were looked for.
    """

    def __init__(self, node: Node, topic: str) -> None:
        self._node = node
        self._topic = topic
        self._found: dict[str, tuple[float, str]] = {}

    def sibling(self) -> str:
        """Return the topic of the other transport of the same images, '' = nobody publishes it."""
        return self._look('sibling', self._sibling)

    def images(self) -> str:
        """
        Return image topics that others publish, '' = none.

        Those that differ in their namespace only come first, and alone.
        """
        return self._look('images', self._images)

    def infos(self) -> str:
        """Return topics of camera_info that others publish, '' = none."""
        return self._look('infos', lambda: _named(self._others(_INFOS)))

    def _look(self, name: str, look: Callable[[], str]) -> str:
        looked_at, found = self._found.get(name, (float('-inf'), ''))
        now = time.monotonic()
        if now - looked_at >= _PERIOD_S:
            found = look()
            self._found[name] = now, found
        return found

    def _sibling(self) -> str:
        other = (self._topic.removesuffix(COMPRESSED) if self._topic.endswith(COMPRESSED)
                 else self._topic + COMPRESSED)
        return other if self._node.count_publishers(other) else ''

    def _images(self) -> str:
        found = self._others(_IMAGES)
        last = self._topic.rsplit('/', 2)[-2:]
        return _named([name for name in found if name.rsplit('/', 2)[-2:] == last] or found)

    def _others(self, kinds: Collection[str]) -> list[str]:
        """Return the topics of some types that other nodes publish."""
        own = (self._node.get_name(), self._node.get_namespace())
        return [name for name, types in self._node.get_topic_names_and_types()
                if any(kind in kinds for kind in types) and any(
                    (info.node_name, info.node_namespace) != own
                    for info in self._node.get_publishers_info_by_topic(name))]


def _named(topics: list[str]) -> str:
    return ', '.join(topics[:_MOST]) + (', ...' if len(topics) > _MOST else '')
