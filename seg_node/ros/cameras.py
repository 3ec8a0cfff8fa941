"""One camera's ROS side: its subscriptions, its publishers, its camera_info."""

from collections.abc import Callable
import time

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

from ..errors import ConfigError, FrameError
from ..frame import Frame, Products
from ..geometry import Geometry
from ..ground.known import KnownCamera
from ..health import CameraHealth
from ..image import wire
from ..model.taxonomy import ClassTable
from ..products import OUTPUTS
from .camera_info import calibration_of, info_of
from .ground import GroundOutputs, GroundSettings, NEEDS
from .label_info import label_info
from .parameters import CameraSettings

_OUTPUT_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                          durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Camera:
    """
    Receives one camera's images and publishes what was made of them.

    Publishers live from configure to cleanup, subscriptions from activate to deactivate, so an
    inactive node costs no transport.

    :param on_frame: gets each well-formed frame, on the executor's thread.
    """

    def __init__(self, node: LifecycleNode, settings: CameraSettings, classes: ClassTable,
                 ground: GroundSettings, rectified: bool,
                 on_frame: Callable[[Frame], None]) -> None:
        self.settings = settings
        self._node = node
        self._classes = classes
        self._on_frame = on_frame
        self._subscriptions: list[Subscription] = []
        self._camera_info: CameraInfo | None = None
        prefix = f'~/{settings.name}/'
        self._known = KnownCamera(settings.calibration, rectified)
        self._ground = GroundOutputs(node, prefix, self._known, ground, classes)
        self._images: dict[str, LifecyclePublisher] = {
            output.name: node.create_lifecycle_publisher(Image, prefix + output.name, _OUTPUT_QOS)
            for output in OUTPUTS}
        self._info_publisher = node.create_lifecycle_publisher(
            CameraInfo, prefix + 'camera_info', _OUTPUT_QOS)
        topic, self._label_info = label_info(classes)
        self._label_publisher = node.create_lifecycle_publisher(
            type(self._label_info), prefix + topic, _LATCHED_QOS)
        self.health = CameraHealth(node.resolve_topic_name(settings.topic))

    @property
    def mask_topic(self) -> str:
        """Where the mask goes, remapping included."""
        return self._images['mask'].topic_name

    def activate(self) -> None:
        """Subscribe, and publish the class names."""
        self.health.restart()
        self._camera_info = None
        self._known.forget()
        reliability = (ReliabilityPolicy.RELIABLE if self.settings.reliable
                       else ReliabilityPolicy.BEST_EFFORT)
        self._qos = QoSProfile(depth=1, reliability=reliability)
        compressed = self.settings.transport == 'compressed'
        self._type = CompressedImage if compressed else Image
        self._parse = wire.parse_compressed_image if compressed else wire.parse_image
        # Raw: the bytes are parsed in place; a deserialised message would copy every pixel.
        self._subscriptions = [
            self._node.create_subscription(self._type, self.settings.topic, self._on_image,
                                           self._qos, raw=True),
            self._node.create_subscription(
                CameraInfo, self.settings.camera_info_topic, self._on_camera_info,
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))]
        self._label_info_now()

    def deactivate(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def destroy(self) -> None:
        """Remove the publishers."""
        for publisher in (*self._images.values(), self._info_publisher, self._label_publisher):
            self._node.destroy_lifecycle_publisher(publisher)
        self._ground.destroy()

    def wanted(self) -> frozenset[str]:
        """Return the names of the outputs that have a subscriber now."""
        wanted = frozenset(name for name, publisher in self._images.items()
                           if publisher.get_subscription_count() > 0)
        return wanted | NEEDS if self._ground.wanted() else wanted

    def publish(self, products: Products) -> None:
        """Publish the outputs that were wanted, with the camera's stamp and frame_id."""
        header = products.frame.header
        for output in OUTPUTS:
            image = products.images.get(output.name)
            publisher = self._images[output.name]
            if image is not None and publisher.get_subscription_count() > 0:
                height, width = image.shape[:2]
                publisher.publish(
                    wire.build_image(header, height, width, output.encoding, image))
        if self._info_publisher.get_subscription_count() > 0:
            self._publish_camera_info(header, products.geometry)
        self._ground.publish(products)
        if self._ground.problem:
            self.health.camera_info_problem = self._ground.problem

    def topic_hint(self) -> str:
        """Say what is known about the publishers of the image topic, and the mend."""
        topic = self.health.topic
        found = self._node.get_publishers_info_by_topic(topic)
        package, _, name = self._type.__module__.partition('.')
        wanted = f'{package}/msg/{self._type.__name__}'
        if not found:
            return (f'nobody publishes it: is the camera driver running, and is '
                    f'{self.settings.name}.image_topic right?')
        if types := {info.topic_type for info in found} - {wanted}:
            return (f'its type is {", ".join(sorted(types))}, not {wanted}: set '
                    f'{self.settings.name}.transport')
        if any(qos_check_compatible(info.qos_profile, self._qos)[0] == QoSCompatibility.ERROR
               for info in found):
            return ('a publisher with incompatible QoS exists: set '
                    f'{self.settings.name}.reliable to false')
        return ('a publisher exists but nothing arrives: large images need the shared-memory '
                'transport, see docs/troubleshooting.md')

    def _label_info_now(self) -> None:
        if hasattr(self._label_info, 'header'):
            self._label_info.header.stamp = self._node.get_clock().now().to_msg()
        self._label_publisher.publish(self._label_info)

    def _on_image(self, cdr: bytes) -> None:
        try:
            message = self._parse(cdr)
        except FrameError as error:
            self.health.on_refused(error, arrived=False)
            return
        now_ns = self._node.get_clock().now().nanoseconds
        age_ms = (now_ns - message.header.stamp_ns) / 1e6 if now_ns else None
        self.health.on_received(message.header.stamp_ns, age_ms)
        if self._known.rectify and self._known.rectification is None:
            self.health.on_refused(FrameError('calibration', 'output_grid is rectified, but '
                                              f'{self.settings.camera_info_topic} has told '
                                              'nothing yet and there is no calibration file'))
            return
        self._on_frame(Frame(self.settings.name, message, time.monotonic_ns(),
                             self.settings.max_pixels, self._known.rectification))

    def _on_camera_info(self, message: CameraInfo) -> None:
        if self._camera_info is not None and _same_camera(self._camera_info, message):
            return
        self._camera_info = message
        try:
            self._known.tell(calibration_of(message, self.settings.name))
            self.health.camera_info_problem = self._known.contradiction
        except ConfigError as error:
            self.health.camera_info_problem = str(error)

    def _publish_camera_info(self, header: wire.Header, geometry: Geometry) -> None:
        calibration = self._known.calibration
        if calibration is None:
            return
        size = geometry.camera
        if (calibration.height, calibration.width) != size:
            self.health.camera_info_problem = (
                f'camera_info is for {calibration.resolution} but the images are {size}: none is '
                'published for the mask; calibrate at the size in use')
            return
        self._info_publisher.publish(info_of(calibration, header, geometry.output,
                                             self._known.rectify))


def _same_camera(one: CameraInfo, other: CameraInfo) -> bool:
    """Return whether two messages tell the same, their headers apart."""
    return all(getattr(one, name) == getattr(other, name) if name not in ('k', 'r', 'p')
               else (getattr(one, name) == getattr(other, name)).all()
               for name in ('height', 'width', 'distortion_model', 'd', 'k', 'r', 'p',
                            'binning_x', 'binning_y', 'roi'))
