"""The sending half of the player: publishers, the clock, and whether anybody listens."""

from collections.abc import Callable, Mapping
import time

from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from ..errors import ConfigError
from .messages import clock_cdr, has_header, message_class
from .qos import DEPTH, sending_qos
from .sources import IMAGE_TYPES, Topic
from .topics import CLOCK

_POLL_S = 0.02


class Sender:
    """
    Publishes recorded messages byte for byte.

    :param context: an initialised rclpy context.
    :param topics: the topics of the source and the names to send them under.
    :param clock: whether to publish ``/clock``.
    :ivar names: the resolved name of each topic of the source.
    :ivar stamped: the topics of the source whose messages begin with a header.
    """

    def __init__(self, context: Context, topics: Mapping[Topic, str], clock: bool) -> None:
        self._node = Node('seg_node_replay', context=context, enable_rosout=False,
                          start_parameter_services=False)
        self._publishers = {
            topic.name: self._node.create_publisher(message_class(topic.type), name,
                                                    sending_qos(topic))
            for topic, name in topics.items()}
        self.names = {name: one.topic_name for name, one in self._publishers.items()}
        self.stamped = {topic.name for topic in topics if has_header(message_class(topic.type))}
        self._images = [topic.name for topic in topics if topic.is_image]
        self._clock = self._node.create_publisher(Clock, CLOCK, DEPTH) if clock else None
        self._clock_ns = -1

    def send(self, topic: str, data: bytes) -> None:
        """Publish CDR bytes on a topic of the source."""
        self._publishers[topic].publish(data)

    def tell_time(self, time_ns: int) -> None:
        """Publish a time on ``/clock`` unless it was the last one."""
        if self._clock is not None and time_ns != self._clock_ns:
            self._clock.publish(clock_cdr(time_ns))
            self._clock_ns = time_ns

    def wait_for_subscribers(self, timeout_s: float, stop: Callable[[], bool],
                             every: bool = False) -> None:
        """
        Wait until at least one image topic, or every one, has a subscriber.

        :raises ConfigError: when none comes in time; it names who listens to what instead.
        """
        end = time.monotonic() + timeout_s
        while self._images and not stop():
            if (all if every else any)(self._subscribed(name) for name in self._images):
                return
            if time.monotonic() > end:
                raise ConfigError(self._nobody(timeout_s))
            time.sleep(_POLL_S)

    def unheard(self) -> list[str]:
        """Return the names of the image topics that nobody subscribes to."""
        return [self.names[name] for name in self._images if not self._subscribed(name)]

    def wait_for_acknowledgement(self, timeout_s: float = 1.0) -> None:
        """Give reliable subscribers time to get the last messages."""
        end = time.monotonic() + timeout_s
        for publisher in self._publishers.values():
            left = max(0.0, end - time.monotonic())
            publisher.wait_for_all_acked(Duration(nanoseconds=round(left * 1e9)))

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()

    def _subscribed(self, name: str) -> bool:
        return self._publishers[name].get_subscription_count() > 0

    def _nobody(self, timeout_s: float) -> str:
        images = self.unheard()
        text = (f'nobody subscribes to {" or ".join(images)} (waited {timeout_s:g} s). Start the '
                'node first, with the same ROS_DOMAIN_ID and RMW_IMPLEMENTATION')
        refusing = [name for name in images if self._node.get_subscriptions_info_by_topic(name)]
        wanted = sorted(
            name for name, types in self._node.get_topic_names_and_types()
            if set(types) & set(IMAGE_TYPES) and name not in self.names.values()
            and self._node.get_subscriptions_info_by_topic(name))
        if refusing:
            text += f'. A subscriber of {refusing[0]} asks for another type or QoS than is offered'
        elif wanted:
            text += (f'. Subscribers wait on {", ".join(wanted)}: change the names or the '
                     'transport (--topic, --transport; --remap for bags)')
        return text + ('; or send without waiting (--wait-for-subscribers 0).')
