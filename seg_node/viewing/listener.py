"""Listens to a node as anybody may, and hands on what is to be shown, at a limited rate."""

from collections import OrderedDict
from collections.abc import Callable, Collection
import json
import re
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from ..errors import FrameError
from ..image import wire
from ..image.decode import decode
from .ground import GroundListener
from .layout import layout
from .stream import RerunStream

LOOK_S = 0.5  # from one look at the graph to the next
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL)
_KEPT = 6  # images that wait for their mask
_ALONE_S = 1.0  # without masks for so long, images are shown alone
_STATE = 'diagnostic_msgs/msg/DiagnosticArray'
_SHOWN = ('mask', 'drivable', 'confidence', 'label_info')


class Listener:
    """
    Finds the cameras of every seg_node in the graph, and follows them.

    :param node: subscribes; it publishes nothing.
    :param rate_hz: most frames a second and camera that are shown.
    :param ground: listen to the ground outputs, too, which the node then makes.
    """

    def __init__(self, node: Node, stream: RerunStream, rate_hz: float, ground: bool) -> None:
        self._node, self._stream, self._ground = node, stream, ground
        self._rate_hz = rate_hz
        self._cameras: dict[str, _Camera] = {}
        self._said: dict[str, tuple[int, str]] = {}
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics,
                                 QoSProfile(depth=10))
        node.create_timer(LOOK_S, self.look)

    @property
    def frames(self) -> int:
        """How many masks have been shown."""
        return sum(camera.shown for camera in self._cameras.values())

    def look(self) -> None:
        """Look for cameras that are new, by their states: presets leave that topic alone."""
        topics = dict(self._node.get_topic_names_and_types())
        for topic, types in topics.items():
            prefix, _, name = topic.rpartition('/')
            if name != 'state' or _STATE not in types or prefix in self._cameras:
                continue
            found = outputs_of(prefix, topics)
            if found and self._node.get_publishers_info_by_topic(found['label_info']):
                self._follow(prefix, found, topics[found['label_info']][0])

    def _follow(self, prefix: str, topics: dict[str, str], type_of_classes: str) -> None:
        name = prefix.rpartition('/')[2]
        if name in (known.name for known in self._cameras.values()):  # another node's
            name = prefix.strip('/').replace('/', '_')
        self._cameras[prefix] = _Camera(self._node, self._stream, topics, name, self._rate_hz)
        self._follow_classes(topics['label_info'], type_of_classes, name)
        if self._ground:
            GroundListener(self._node, self._stream, prefix, name, self._rate_hz)
        self._stream.layout(layout([one.name for one in self._cameras.values()], self._ground))

    def _follow_classes(self, topic: str, type_name: str, camera: str) -> None:
        if type_name == 'std_msgs/msg/String':
            self._node.create_subscription(
                String, topic, lambda message: self._stream.classes(camera, [
                    (entry['class_id'], entry['class_name'], tuple(entry['colour_rgb']))
                    for entry in json.loads(message.data)['class_map']]), _LATCHED)
            return
        from vision_msgs.msg import LabelInfo
        self._node.create_subscription(
            LabelInfo, topic, lambda message: self._stream.classes(camera, [
                (entry.class_id, entry.class_name, None) for entry in message.class_map]),
            _LATCHED)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        stamp_ns = _nanoseconds(message.header.stamp)
        if not stamp_ns:  # /clock has not told the time yet; the line of time would begin in 1970
            return
        rows = []
        for status in message.status:
            owner, _, part = status.name.rpartition(': ')
            values = {pair.key: pair.value for pair in status.values}
            camera = self._cameras.get(f'/{owner}/{part}')
            if camera is not None:
                part = camera.name
                self._stream.figures(part, stamp_ns, _figures(values))
                camera.follow_images(values.get('topic', ''))
            elif not {'transport', 'topic'} & set(values):
                continue  # another package's
            level = _level(status.level)
            gist = level, re.sub(r'\d+(\.\d+)?', '', status.message)  # figures change always
            if self._said.get(part) != gist:
                self._said[part] = gist
                self._stream.said('diagnostics/said', stamp_ns, level,
                                  f'{part}: {status.message}')
            rows.append(f'| {part} | {("OK", "WARN", "ERROR", "STALE")[level]} | '
                        f'{status.message.replace("|", "/")} |')
        if rows:
            self._stream.document('diagnostics/now', stamp_ns, '\n'.join(
                ['| | level | message |', '|---|---|---|', *rows]))


def outputs_of(prefix: str, topics: Collection[str]) -> dict[str, str]:
    """
    Return where a camera's outputs are, by name; none where one of them is missing.

    :param prefix: ``/<node>/<camera>``; a preset may have moved some outputs elsewhere, there
        below the camera's name, or without it where it is the only one.
    :param topics: all that there are.
    """
    camera = prefix.rpartition('/')[2]
    found = {'state': f'{prefix}/state'}
    for shown in _SHOWN:
        name = shown  # without vision_msgs it is label_info_json
        if shown == 'label_info' and not any(topic.endswith('/label_info') for topic in topics):
            name = 'label_info_json'
        elsewhere = sorted(topic for topic in topics if topic.endswith(f'/{name}'))
        fitting = [topic for topic in (f'{prefix}/{name}', *elsewhere)
                   if topic in topics and topic.endswith(f'/{camera}/{name}')]
        if not fitting and len(elsewhere) == 1:
            fitting = elsewhere
        if not fitting:
            return {}
        found[shown] = fitting[0]
    return found


class _Camera:
    """One camera: its image, what the node made of it, its state."""

    def __init__(self, node: Node, stream: RerunStream, topics: dict[str, str], name: str,
                 rate_hz: float) -> None:
        self.name, self.shown = name, 0
        self._node, self._stream = node, stream
        self._period_s = 1 / rate_hz
        self._next_s = self._masked_s = 0.0
        self._waiting: OrderedDict[int, Callable[[], np.ndarray]] = OrderedDict()
        self._taken: OrderedDict[int, None] = OrderedDict()
        self._images_from = ''
        self._state = ''
        for output, react in (('mask', self._on_mask), ('drivable', self._on_drivable),
                              ('confidence', self._on_confidence)):
            node.create_subscription(Image, topics[output], react, _NEWEST, raw=True)
        node.create_subscription(DiagnosticArray, topics['state'], self._on_state,
                                 QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))

    def follow_images(self, topic: str) -> None:
        """Subscribe to the images of the camera itself, once it is known where they are."""
        if not topic or topic == self._images_from:
            return
        publishers = self._node.get_publishers_info_by_topic(topic)
        if not publishers:
            return
        self._images_from = topic
        compressed = publishers[0].topic_type == 'sensor_msgs/msg/CompressedImage'
        parse = wire.parse_compressed_image if compressed else wire.parse_image

        def receive(data: bytes) -> None:
            try:
                message = parse(data)
            except FrameError:
                return  # the node says so, in its diagnostics
            self._on_image(message.header.stamp_ns, lambda: decode(message))
        self._node.create_subscription(CompressedImage if compressed else Image, topic, receive,
                                       _NEWEST, raw=True)

    def _on_image(self, stamp_ns: int, show: Callable[[], np.ndarray]) -> None:
        now_s = time.monotonic()
        if stamp_ns in self._taken:  # its mask was handed on first
            self._show(stamp_ns, show)
            return
        if now_s - self._masked_s > _ALONE_S and now_s >= self._next_s:
            self._next_s = now_s + self._period_s
            self._show(stamp_ns, show)
            return
        self._waiting[stamp_ns] = show
        while len(self._waiting) > _KEPT:
            self._waiting.popitem(last=False)

    def _show(self, stamp_ns: int, show: Callable[[], np.ndarray]) -> None:
        try:
            self._stream.image(self.name, stamp_ns, show())
        except FrameError:
            pass  # the node says so, in its diagnostics

    def _on_mask(self, data: bytes) -> None:
        now_s = self._masked_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = max(self._next_s + self._period_s, now_s)
        message = wire.parse_image(data)
        stamp_ns = message.header.stamp_ns
        self._taken[stamp_ns] = None
        while len(self._taken) > _KEPT:
            self._taken.popitem(last=False)
        show = self._waiting.pop(stamp_ns, None)
        if show is not None:
            self._show(stamp_ns, show)
        self._stream.mask(self.name, 'mask', stamp_ns, _plane(message))
        self.shown += 1

    def _on_drivable(self, data: bytes) -> None:
        message = wire.parse_image(data)
        if message.header.stamp_ns in self._taken:
            self._stream.mask(self.name, 'drivable', message.header.stamp_ns, _plane(message))

    def _on_confidence(self, data: bytes) -> None:
        message = wire.parse_image(data)
        if message.header.stamp_ns in self._taken:
            self._stream.confidence(self.name, message.header.stamp_ns, _plane(message))

    def _on_state(self, message: DiagnosticArray) -> None:
        for status in message.status:
            state = next((pair.value for pair in status.values if pair.key == 'state'), '')
            if state != self._state:
                self._state = state
                self._stream.said(f'{self.name}/state', _nanoseconds(message.header.stamp),
                                  _level(status.level), f'{self.name} is {state}: '
                                  f'{status.message}')


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * 10 ** 9 + int(stamp.nanosec)


def _level(level: bytes | int) -> int:
    """Return the level of a status, 0 to 3; a byte in rclpy."""
    return min(level[0] if isinstance(level, bytes) else level, 3)


def _plane(message: wire.ImageMessage) -> np.ndarray:
    return message.data.reshape(message.height, message.step)[:, :message.width]


def _figures(values: dict[str, str]) -> dict[str, float]:
    """Return what is plotted of a camera's diagnostics, by path."""
    found = {}
    for key, value in values.items():
        if key.startswith('stage_'):
            name = f'ms/{key.removeprefix("stage_").removesuffix("_ms")}'
        elif key in ('latency_ms_p50', 'latency_ms_p95', 'processing_ms_p50'):
            name = f'ms/{key.replace("_ms", "")}'
        elif key in ('input_rate_hz', 'output_rate_hz'):
            name = f'hz/{key.removesuffix("_rate_hz")}'
        else:
            continue
        if value:
            found[name] = float(value)
    return found


