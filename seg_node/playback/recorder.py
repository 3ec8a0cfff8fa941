"""Listens to topics as they appear: when each message came, and (if wanted) into a bag."""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from threading import Condition, Thread
import time
from typing import Any

from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from ..errors import ConfigError
from .bag_writer import BagWriter
from .messages import has_header, message_class, stamp_ns
from .qos import listening_qos, recorded_qos

DISCOVERY_PERIOD_S = 0.1
_KEPT = 100_000  # times kept per topic, so that an endless loop does not eat the memory
_NEWEST = 100


@dataclass
class Heard:
    """
    What came on one topic.

    :ivar stamped: whether its messages begin with a header.
    :ivar one_sender: whether a single publisher sends it.
    :ivar times: (header stamp ns, ``time.monotonic_ns()`` of the receipt) of the newest stamped
        messages.
    :ivar count: how many messages came.
    :ivar lost: how many were sent since the first one but did not come.
    """

    stamped: bool
    one_sender: bool
    times: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    count: int = 0
    lost: int = 0
    _numbers: dict[bytes, int] = field(default_factory=dict)

    def note(self, data: bytes, info: dict[str, Any], now_ns: int) -> None:
        """Take note of a message."""
        self.count += 1
        stamp = stamp_ns(data) if self.stamped else None
        if stamp is not None:
            self.times.append((stamp, now_ns))
        number = info.get('publication_sequence_number')
        # Without the sender's id (Jazzy) the numbers of several publishers cannot be told apart.
        if number and ('publisher_gid' in info or self.one_sender):
            sender = bytes(info['publisher_gid']['data']) if 'publisher_gid' in info else b''
            self.lost += max(0, number - self._numbers.get(sender, number - 1) - 1)
            self._numbers[sender] = number


class Recorder:
    """
    Subscribes to everything that matches, from its own thread; a message is never decoded.

    :param context: an initialised rclpy context.
    :param patterns: absolute topic names, shell-style wildcards allowed.
    :param ignored: topics never to subscribe to (those that this process sends).
    :param writer: where messages go; None = only note when they came. It is left open.
    :param written: patterns of those topics whose messages are written.
    :param now_ns: the time to write into the bag.
    :param on_message: gets topic and bytes of each message, in the recorder's thread.
    """

    def __init__(self, context: Context, patterns: Sequence[str], ignored: Collection[str] = (),
                 writer: BagWriter | None = None, written: Sequence[str] = ('*',),
                 now_ns: Callable[[], int] = time.time_ns,
                 on_message: Callable[[str, bytes], object] = lambda topic, data: None) -> None:
        self.heard: dict[str, Heard] = {}
        self.notices: list[str] = []
        self._patterns = patterns
        self._seen = set(ignored)
        self._writer, self._written = writer, written
        self._now_ns = now_ns
        self._on_message = on_message
        self._subscriptions: dict[str, Subscription] = {}
        self._changed = Condition()
        self._error: Exception | None = None
        self._stopping = False
        self._node = Node('seg_node_recorder', context=context, use_global_arguments=False,
                          enable_rosout=False, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._thread = Thread(target=self._run, name='recorder', daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what went wrong in the recorder's thread, e.g. a ConfigError of the writer."""
        if self._error is not None:
            raise self._error

    def wait_for(self, topic: str, stamp: int, since_ns: int, timeout_s: float) -> bool:
        """
        Wait for a message with a given stamp (ns).

        :param since_ns: monotonic time; earlier messages do not count.
        :returns: whether it came in time.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._error is not None or self._has(topic, stamp, since_ns), timeout_s)
            return self._has(topic, stamp, since_ns)

    def last_answer_ns(self, stamps: Collection[int]) -> int:
        """Return the monotonic time of the newest message with one of some stamps; 0 = none."""
        with self._changed:
            return max((came_ns for heard in self.heard.values()
                        for stamp, came_ns in islice(reversed(heard.times), _NEWEST)
                        if stamp in stamps),
                       default=0)

    def connected(self, pattern: str) -> bool:
        """Return whether a topic that fits is listened to and its publisher found."""
        return any(_has_publisher(subscription)
                   for topic, subscription in list(self._subscriptions.items())
                   if _matches(topic, [pattern]))

    def close(self) -> None:
        """Stop listening."""
        self._stopping = True
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()

    def _has(self, topic: str, stamp: int, since_ns: int) -> bool:
        heard = self.heard.get(topic)
        for found, came_ns in reversed(heard.times if heard else []):
            if came_ns < since_ns:
                return False
            if found == stamp:
                return True
        return False

    def _run(self) -> None:
        next_look = 0.0
        try:
            while not self._stopping:
                if time.monotonic() >= next_look:
                    self._discover()
                    next_look = time.monotonic() + DISCOVERY_PERIOD_S
                self._executor.spin_once(timeout_sec=DISCOVERY_PERIOD_S / 2)
        except Exception as error:  # check() raises it where it can be handled
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _discover(self) -> None:
        for topic, types in self._node.get_topic_names_and_types():
            if topic in self._seen or not _matches(topic, self._patterns):
                continue
            publishers = self._node.get_publishers_info_by_topic(topic)
            if publishers:
                self._seen.add(topic)
                try:
                    self._subscribe(topic, types[0], publishers)
                except ConfigError as error:
                    self.notices.append(f'{topic} is not recorded: {error}')

    def _subscribe(self, topic: str, type_name: str,
                   publishers: Sequence[TopicEndpointInfo]) -> None:
        found = message_class(type_name)
        if found is None:
            raise ConfigError(f'message type {type_name} is not installed')
        writer = self._writer if _matches(topic, self._written) else None
        if writer is not None:
            writer.add_topic(topic, type_name, announced_hash(publishers[0]),
                             [recorded_qos(one.qos_profile) for one in publishers])
        heard = Heard(has_header(found), len(publishers) == 1)

        def receive(data: bytes, info: dict[str, Any]) -> None:
            now_ns = time.monotonic_ns()
            if writer is not None:
                writer.write(topic, self._now_ns(), data)
            with self._changed:
                heard.note(data, info, now_ns)
                self._changed.notify_all()
            self._on_message(topic, data)
        self._subscriptions[topic] = self._node.create_subscription(
            found, topic, receive, listening_qos(publishers), raw=True)
        with self._changed:
            self.heard[topic] = heard


def _has_publisher(subscription: Subscription) -> bool:
    # Not every distribution can tell.
    return not hasattr(subscription, 'get_publisher_count') or (
        subscription.get_publisher_count() > 0)


def _matches(topic: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(topic, pattern) for pattern in patterns)


def announced_hash(publisher: TopicEndpointInfo) -> str:
    """Return a publisher's type hash as ``'RIHS01_...'``; '' when it announces none."""
    kind, _, digits = str(publisher.topic_type_hash).partition('_')
    return f'{kind}_{digits}' if kind == 'RIHS01' and digits.strip('0') else ''
