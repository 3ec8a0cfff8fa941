"""One camera's ROS side: its subscriptions, its publishers, its camera_info."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import (
    DurabilityPolicy,
    qos_check_compatible,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import SetBool

from ..errors import ConfigError, FrameError
from ..frame import DRIVABLE_CLASS, Frame, Products, StageClock
from ..geometry import Geometry, Size
from ..ground.known import KnownCamera
from ..health.facts import InfoFacts, Publishers
from ..health.judge import Verdict
from ..health.report import Level, Limits
from ..health.stream import CameraHealth
from ..image import wire
from ..mishaps import mishaps
from ..model.taxonomy import ClassTable
from ..products import OUTPUTS
from .camera_info import calibration_of, info_of
from .executors import told_apart
from .ground import GroundOutputs, GroundSettings, NEEDS
from .hints import Hints
from .label_info import label_info, topic_beside
from .outputs import ImageOutputs, QOS
from .settings import CameraSettings
from .state import DISABLED, disabled_message, state_message, values

# As many images as DDS keeps until the executor takes them: enough for it to be late by some
# frames, so that what is missing in the numbers was lost on the way. The mailbox keeps one.
_INPUT_DEPTH = 5
_DISABLED_S = 1.0  # between two messages that a camera is disabled
_LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                          durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Camera:
    """
    Receives one camera's images and publishes what was made of them.

    Publishers live from configure to cleanup, subscriptions from activate to deactivate, so an
    inactive node costs no transport.

    :param topic: gives the topic of an output by its name.
    :param on_frame: gets each well-formed frame, on the executor's thread.
    :param heads: by its topic the class table of each further mask that the model gives.
    :param info_needed: the preset whose consumer takes no mask without camera_info; '' = none.
    """

    def __init__(self, node: LifecycleNode, settings: CameraSettings, classes: ClassTable,
                 topic: Callable[[str], str], ground: GroundSettings, rectified: bool,
                 on_frame: Callable[[Frame], None],
                 heads: Mapping[str, ClassTable] | None = None, info_needed: str = '') -> None:
        self.settings = settings
        self._node = node
        self._clock = node.get_clock().handle  # now() makes a Time of its own
        self._classes = classes
        self._on_frame = on_frame
        self._subscriptions: list[Subscription] = []
        self._camera_info: CameraInfo | None = None
        self._known = KnownCamera(settings.calibration, rectified)
        self._ground = GroundOutputs(node, topic, self._known, ground, classes)
        self._images = ImageOutputs(node, topic, [role for role in heads or {}
                                                  if role != DRIVABLE_CLASS])
        self._info_publisher = node.create_lifecycle_publisher(
            CameraInfo, topic('camera_info'), QOS)
        self._state_publisher = node.create_lifecycle_publisher(
            DiagnosticArray, topic('state'), QOS)
        self._label_infos: list[tuple[LifecyclePublisher, Any]] = []
        for place, table in {'': classes, **(heads or {})}.items():
            message = label_info(table)
            name = f'{topic(place)}/label_info' if place else topic('label_info')
            name = topic_beside(name, message)
            self._label_infos.append((node.create_lifecycle_publisher(
                type(message), name, _LATCHED_QOS), message))
        self._info_topic = node.resolve_topic_name(settings.camera_info_topic)
        enable = f'~/{settings.name}/enable'
        self._service = node.create_service(SetBool, enable, self._on_enable)
        self._enable_name = node.resolve_service_name(enable)
        self._enabled, self._active, self._told_at = True, False, 0.0
        self._info_needed = info_needed
        self._missing: frozenset[str] = frozenset()
        self._label_topic = node.resolve_topic_name(topic('label_info'))
        self.health = CameraHealth(node.resolve_topic_name(settings.topic), settings.name)
        self._hints = Hints(node, self.health.topic)

    @property
    def mask_topic(self) -> str:
        """Where the mask goes, remapping included."""
        return self._images.topic('mask')

    def inputs(self) -> dict[str, str]:
        """Return by parameter which topics are subscribed to."""
        return {f'{self.settings.name}.image_topic': self.settings.topic,
                f'{self.settings.name}.camera_info_topic': self.settings.camera_info_topic}

    def activate(self) -> None:
        """Subscribe, and publish the class names."""
        self._active = True
        if not self._enabled or self._subscriptions:
            return
        self.health.restart()
        self._camera_info = None
        self._info_problem = ''
        self._known.forget()
        self._alone = True
        reliability = (ReliabilityPolicy.RELIABLE if self.settings.reliable
                       else ReliabilityPolicy.BEST_EFFORT)
        self._qos = QoSProfile(depth=_INPUT_DEPTH, reliability=reliability)
        compressed = self.settings.transport == 'compressed'
        self._type = CompressedImage if compressed else Image
        self._parse = wire.parse_compressed_image if compressed else wire.parse_image
        self._subscriptions = [
            self._subscribe(),
            self._node.create_subscription(
                CameraInfo, self.settings.camera_info_topic, self._on_camera_info,
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))]
        self._label_info_now()

    def deactivate(self) -> None:
        """Unsubscribe."""
        self._active = False
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def destroy(self) -> None:
        """Remove the publishers and the service."""
        self._node.destroy_service(self._service)
        for publisher in (self._info_publisher, self._state_publisher,
                          *(publisher for publisher, _ in self._label_infos)):
            self._node.destroy_lifecycle_publisher(publisher)
        self._images.destroy()
        self._ground.destroy()

    def retune(self, ground: GroundSettings) -> None:
        """Tell free space by other settings from the next frame on."""
        self._ground.retune(ground)

    def wanted(self) -> frozenset[str]:
        """Return the names of the outputs that have a subscriber now."""
        wanted = self._images.wanted()
        return wanted | NEEDS if self._ground.wanted() else wanted

    def deliver(self, products: Products, clock: StageClock) -> None:
        """Publish the outputs that were wanted, with the camera's stamp and frame_id; count it."""
        frame = products.frame
        if not self._enabled:  # it was in hand
            self.health.on_dropped()
            return
        self._missing = products.missing
        with clock.stage('publish'):
            self._publish(products)
        if (standing := products.standing) is not None:
            self.health.on_judged(str(standing.state), standing.reason, partial(values, standing))
        self.health.on_segmented(products.geometry.camera, self._age_ms(frame.header.stamp_ns),
                                 (time.monotonic_ns() - frame.received_ns) / 1e6, clock.ms)

    def judge(self, limits: Limits) -> Verdict:
        """Say how the camera's stream is."""
        self._alone = self._node.count_publishers(self.health.topic) < 2
        if not self._enabled:
            self._tell_disabled()
            return Verdict(Level.WARN, (DISABLED,), (f'{DISABLED} by {self._enable_name}: call '
                                                     'it with data true to go on',))
        calibration = self._known.calibration
        wanted = self._info_publisher.get_subscription_count() > 0
        return self.health.judge(limits, self._publishers, InfoFacts(
            topic=self._info_topic, wanted=wanted,
            lacking=self._lacking(), needed=self._info_needed,
            elsewhere=(self._hints.infos() if calibration is None
                       and (wanted or self._info_needed) else ''),
            size=None if calibration is None else Size(calibration.height, calibration.width),
            problem=self._info_problem, ground_problem=self._ground.problem))

    def values(self) -> dict[str, str]:
        """Return the figures for the diagnostics."""
        if not self._enabled:
            return {'topic': self.health.topic, 'state': DISABLED}
        return self.health.values()

    def _lacking(self) -> str:
        """Say why there are no outputs that somebody waits for; '' = there are all."""
        found = [f'no {output.name}: {output.lacking}' for output in OUTPUTS
                 if output.name in self._missing]
        publisher, message = self._label_infos[0]
        if isinstance(message, String) and self._node.count_subscribers(self._label_topic):
            found.append(f'no {self._label_topic}: vision_msgs is not installed here (apt install '
                         'ros-$ROS_DISTRO-vision-msgs); the names are on '
                         f'{publisher.topic_name} as JSON')
        return '; '.join(found)

    def _on_enable(self, request: SetBool.Request,
                   response: SetBool.Response) -> SetBool.Response:
        if request.data != self._enabled:
            self._enabled, self._told_at = request.data, 0.0
            if not request.data:
                self._unsubscribe()
            elif self._active:
                self.activate()
            self._node.get_logger().info(
                f'camera {self.settings.name} {"enabled" if request.data else DISABLED}')
        response.success = True
        response.message = 'enabled' if self._enabled else DISABLED
        return response

    def _tell_disabled(self) -> None:
        """Say it on the topic of the states, once a second: no frame does."""
        if self._active and time.monotonic() - self._told_at >= _DISABLED_S:
            self._told_at = time.monotonic()
            name = f'{self._node.get_fully_qualified_name()[1:]}: {self.settings.name}'
            self._state_publisher.publish(disabled_message(
                self._node.get_clock().now().to_msg(), name))

    def _publish(self, products: Products) -> None:
        header = products.frame.header
        if (products.standing is not None
                and self._state_publisher.get_subscription_count() > 0):
            name = f'{self._node.get_fully_qualified_name()[1:]}: {self.settings.name}'
            self._state_publisher.publish(state_message(header, name, products.standing))
        self._images.publish(header, products.images)
        if self._info_publisher.get_subscription_count() > 0:
            self._publish_camera_info(header, products.geometry)
        self._ground.publish(products)

    def _publishers(self) -> Publishers:
        """Return what the middleware knows about the publishers of the image topic."""
        found = self._node.get_publishers_info_by_topic(self.health.topic)
        package, _, name = self._type.__module__.partition('.')
        wanted = f'{package}/msg/{self._type.__name__}'
        return Publishers(
            count=len(found), wanted=wanted,
            sibling='' if found else self._hints.sibling(),
            elsewhere='' if found else self._hints.images(),
            types=tuple(sorted({info.topic_type for info in found} - {wanted})),
            compatible=not any(qos_check_compatible(info.qos_profile, self._qos)[0]
                               == QoSCompatibility.ERROR for info in found))

    def _subscribe(self) -> Subscription:
        # Raw: the bytes are parsed in place; a deserialised message would copy every pixel.
        arguments = self._type, self.settings.topic, told_apart(self._on_image), self._qos
        events = SubscriptionEventCallbacks(
            message_lost=lambda event: self.health.on_lost(event.total_count_change))
        try:
            return self._node.create_subscription(*arguments, raw=True, event_callbacks=events)
        except UnsupportedEventTypeError:  # some middlewares do not tell
            return self._node.create_subscription(*arguments, raw=True)

    def _label_info_now(self) -> None:
        for publisher, message in self._label_infos:
            if hasattr(message, 'header'):
                message.header.stamp = self._node.get_clock().now().to_msg()
            publisher.publish(message)

    def _on_image(self, cdr: bytes, info: Mapping[str, Any]) -> None:
        received_ns = time.monotonic_ns()
        sender = self._sender(info)
        try:
            with mishaps('reading'):
                message = self._parse(cdr)
        except FrameError as error:
            self.health.on_malformed(error, *sender)
            return
        stamp_ns = message.header.stamp_ns
        self.health.on_received(stamp_ns, self._age_ms(stamp_ns), *sender)
        if self._known.rectify and self._known.rectification is None:
            self.health.on_refused(FrameError('calibration', 'output_grid is rectified, but '
                                              f'{self.settings.camera_info_topic} has told '
                                              'nothing yet and there is no calibration file'))
            return
        self._on_frame(Frame(self.settings.name, message, received_ns,
                             self.settings.max_pixels, self._known.rectification))

    def _sender(self, info: Mapping[str, Any]) -> tuple[bytes, int | None]:
        """Return which publisher sent a message, and its number where that can be trusted."""
        number = info.get('publication_sequence_number')
        publisher = info.get('publisher_gid')  # not before Kilted
        if publisher is not None:
            return publisher['data'], number
        return b'', number if self._alone else None

    def _age_ms(self, stamp_ns: int) -> float | None:
        """Return how long ago a stamp was by the node's clock; None if either has no time."""
        now_ns: int = self._clock.get_now().nanoseconds
        return (now_ns - stamp_ns) / 1e6 if now_ns and stamp_ns else None

    def _on_camera_info(self, message: CameraInfo) -> None:
        if self._camera_info is not None and _same_camera(self._camera_info, message):
            return
        self._camera_info = message
        try:
            self._known.tell(calibration_of(message, self.settings.name))
            self._info_problem = self._known.contradiction
        except ConfigError as error:
            self._info_problem = str(error)

    def _publish_camera_info(self, header: wire.Header, geometry: Geometry) -> None:
        calibration = self._known.calibration
        if calibration is not None and (calibration.height, calibration.width) == geometry.camera:
            self._info_publisher.publish(info_of(calibration, header, geometry.output,
                                                 self._known.rectify))


def _same_camera(one: CameraInfo, other: CameraInfo) -> bool:
    """Return whether two messages tell the same, their headers apart."""
    return all(getattr(one, name) == getattr(other, name) if name not in ('k', 'r', 'p')
               else (getattr(one, name) == getattr(other, name)).all()
               for name in ('height', 'width', 'distortion_model', 'd', 'k', 'r', 'p',
                            'binning_x', 'binning_y', 'roi'))


def refuse_own_topics(node: LifecycleNode, cameras: Iterable[Camera]) -> None:
    """
    Refuse to subscribe to what this node publishes, under whatever name.

    :raises ConfigError: names the parameter and its value.
    """
    own = {publisher.topic_name for publisher in node.publishers}
    for camera in cameras:
        for parameter, topic in camera.inputs().items():
            if node.resolve_topic_name(topic) in own:
                raise ConfigError(f'parameter {parameter} leads to {topic!r}, which this node '
                                  'publishes itself: give the topic of the camera')
