"""A camera's ground outputs: grid, scan, points and boundary, in metres, for those who listen."""

import array
from collections.abc import Callable
from dataclasses import dataclass, replace
import math
from typing import Any

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point32, PolygonStamped, TransformStamped
from nav_msgs.msg import OccupancyGrid
import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import LaserScan, PointCloud2, PointField
from std_msgs.msg import Header

from ..errors import ConfigError
from ..frame import Frame, Products
from ..geometry import Size
from ..ground.calibration import CameraCalibration, Mount
from ..ground.cloud import GroundCloud
from ..ground.free_space import FreeSpace, GridSpec, Seen
from ..ground.known import KnownCamera
from ..ground.live_pitch import LivePitch, MOST_DEVIATION, Pitch, USUAL_SIGMA
from ..ground.rays import make_rays
from ..model.taxonomy import ClassTable
from .listeners import listeners
from .mount_tf import MountFromTf

_STREAM = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
# A static layer subscribes to its map as to one that is published once.
_LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL)
_TYPES = {'drivable_grid': (OccupancyGrid, _LATCHED), 'scan': (LaserScan, _STREAM),
          'ground_points': (PointCloud2, _STREAM), 'free_space': (PolygonStamped, _STREAM)}
NAMES = tuple(_TYPES)
#: What the ground is made of.
NEEDS = frozenset({'mask', 'drivable'})
_POLYGON_POINTS = 120


@dataclass(frozen=True)
class GroundSettings:
    """
    How free space is told.

    :ivar pitch_sigma_rad: how far the pitch of the mount may be wrong.
    :ivar live_pitch: whether the pitch is followed in the picture.
    :ivar base_frame: in which TF tells the mount; '' = the calibration file tells it.
    :ivar mark_boundary: whether the nearest boundary of each ray is 100 in the grid.
    :ivar connected: whether only free cells that connect to the car count.
    """

    grid: GridSpec
    pitch_sigma_rad: float
    range_m: float
    live_pitch: bool
    base_frame: str
    mark_boundary: bool
    connected: bool


class GroundOutputs:
    """
    Makes and publishes the ground outputs of one camera.

    :param topic: gives the topic of an output by its name.
    :param known: its calibration in use.
    :ivar pitch: the last estimate, where it is followed in the picture.
    :ivar problem: why there is no output though somebody listens, '' if there is no problem.
    """

    def __init__(self, node: LifecycleNode, topic: Callable[[str], str], known: KnownCamera,
                 settings: GroundSettings, classes: ClassTable) -> None:
        self._known = known
        self._settings = settings
        self._next: GroundSettings | None = None
        self._ground_lut = classes.ground_lut()
        self._made_for: tuple[Size, CameraCalibration | None] | None = None
        self._free_space: FreeSpace | None = None
        self._cloud: GroundCloud | None = None
        self._live: LivePitch | None = None
        self._bytes = array.array('B')  # of the cloud; kept: new megabytes cost more than points
        self._with_mount: tuple[CameraCalibration, Mount, CameraCalibration] | None = None
        self.problem = ''
        self.pitch: Pitch | None = None
        self._publishers: dict[str, LifecyclePublisher] = {
            name: node.create_lifecycle_publisher(kind, topic(name), qos)
            for name, (kind, qos) in _TYPES.items()}
        frames = type_of_frames()
        self._frames = None if frames is None else node.create_publisher(
            frames, '/tf_static', _LATCHED)
        self._listeners = [(name, listeners(publisher))
                           for name, publisher in self._publishers.items()]
        self._node = node
        self._tf = MountFromTf(node, settings.base_frame) if settings.base_frame else None

    def retune(self, settings: GroundSettings) -> None:
        """Go by other settings from the next frame on; from any thread."""
        if settings != self._settings:
            self._next = settings

    def wanted(self) -> frozenset[str]:
        """Return the names of the ground outputs that have a subscriber now."""
        return frozenset([name for name, count in self._listeners if count()])

    def destroy(self) -> None:
        """Remove the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        if self._frames is not None:
            self._node.destroy_publisher(self._frames)

    def publish(self, products: Products) -> None:
        """Publish what is wanted of a frame; runs on the inference thread."""
        if self._next is not None:
            self._settings, self._next, self._made_for = self._next, None, None
        wanted = self.wanted()
        if not wanted:
            self.problem = ''
            return
        if not self._ready(products):
            return
        assert self._free_space is not None and self._calibration.mount is not None
        mask = np.ascontiguousarray(products.images['mask'])
        stamp = Time(sec=products.frame.header.sec, nanosec=products.frame.header.nanosec)
        header = Header(stamp=stamp, frame_id=self._calibration.mount.base_frame)
        if 'ground_points' in wanted:
            self._publishers['ground_points'].publish(
                points_message(header, self._points(products.geometry.output), mask,
                               self._bytes))
        if wanted == {'ground_points'}:
            return
        space = self._free_space
        drivable = np.ascontiguousarray(products.images['drivable'])
        if self._live is None:
            seen = space.see(mask, drivable)
        else:
            self.pitch = self._live.update(products.frame.bgr, products.frame.header.stamp_ns)
            seen = space.see(mask, drivable, self.pitch.deviation, self.pitch.sigma)
        for name, make in (('drivable_grid', grid_message), ('free_space', polygon_message)):
            if name in wanted:
                self._publishers[name].publish(make(header, space, seen))
        if 'scan' in wanted:
            header = Header(stamp=stamp, frame_id=ground_frame(products.frame.camera))
            self._publishers['scan'].publish(scan_message(header, space, seen))

    def _ready(self, products: Products) -> bool:
        """Make the tables for this calibration and size of mask; say why where that fails."""
        size = products.geometry.output
        try:
            known = self._mounted(products.frame)
        except ConfigError as error:
            self.problem = f'no ground outputs: {error}'
            return False
        if self._made_for == (size, known):
            return self._free_space is not None
        self._made_for, self._free_space, self._cloud = (size, known), None, None
        self._live, self.pitch = None, None
        follow = self._settings.live_pitch
        sigma = max(self._settings.pitch_sigma_rad, USUAL_SIGMA if follow else 0.0)
        try:
            self._calibration = _fitting(known, products.geometry.camera)
            assert self._calibration.mount is not None
            rays = make_rays(self._calibration, self._calibration.mount, size,
                             rectified=self._known.rectify,
                             pitch_sigma_rad=sigma, max_range_m=self._settings.range_m,
                             margin_rad=MOST_DEVIATION if follow else 0.0)
        except ConfigError as error:
            self.problem = f'no ground outputs: {error}'
            return False
        self._free_space = FreeSpace(
            rays, self._settings.grid, self._ground_lut,
            mark_boundary=self._settings.mark_boundary, connected=self._settings.connected)
        if follow:
            self._live = LivePitch(self._calibration, self._calibration.mount)
        self.problem = ''
        self._tell_frame(products.frame.camera)
        return True

    def _mounted(self, frame: Frame) -> CameraCalibration | None:
        """Return the calibration with its mount of now; one object while both stay the same."""
        known = self._known.calibration
        if self._tf is None or known is None:
            return known
        mount = self._tf.at(frame.header)
        if self._with_mount is None or self._with_mount[:2] != (known, mount):
            self._with_mount = known, mount, replace(known, mount=mount)
        return self._with_mount[2]

    def _points(self, size: Size) -> GroundCloud:
        if self._cloud is None:
            assert self._free_space is not None and self._calibration.mount is not None
            self._cloud = GroundCloud(
                self._calibration, self._calibration.mount, size, rectified=self._known.rectify,
                ground_lut=self._ground_lut, limit_m=self._free_space.rays.limit_m)
        return self._cloud

    def _tell_frame(self, camera: str) -> None:
        """Publish where the scan's frame is, if tf2's message type is installed."""
        if self._frames is None:
            return
        mount = self._calibration.mount
        assert mount is not None
        transform = TransformStamped(child_frame_id=ground_frame(camera))
        transform.header.stamp = self._node.get_clock().now().to_msg()
        transform.header.frame_id = mount.base_frame
        transform.transform.translation.x = float(mount.translation[0])
        transform.transform.translation.y = float(mount.translation[1])
        transform.transform.rotation.w = 1.0
        self._frames.publish(type_of_frames()(transforms=[transform]))


def type_of_frames() -> Any:
    """Return tf2_msgs' TFMessage, None where it is not installed."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return None
    return TFMessage


def _fitting(calibration: CameraCalibration | None, camera: Size) -> CameraCalibration:
    """Return the calibration, if it is for these images and knows the mount."""
    if calibration is None:
        raise ConfigError('the camera has no calibration: give a calibration file with a mount '
                          'as parameter <camera>.calibration, or publish camera_info and set '
                          'mount_from_tf')
    calibration.optical_from_base()  # raises without a mount, with the mend
    if (calibration.height, calibration.width) != camera:
        raise ConfigError(f'the calibration is for {calibration.resolution}, the images are '
                          f'{camera}: calibrate at the size in use')
    return calibration


def grid_message(header: Header, space: FreeSpace, seen: Seen) -> OccupancyGrid:
    """Return the grid: 0 free, 100 the nearest boundary, -1 unknown; x fastest."""
    cells = space.occupancy(seen)
    message = OccupancyGrid(header=header)
    message.info.map_load_time = header.stamp
    message.info.resolution = space.grid.cell_m
    message.info.height, message.info.width = cells.shape
    message.info.origin.position.x, message.info.origin.position.y = space.grid.origin
    message.info.origin.orientation.w = 1.0
    message.data = array.array('b', cells.tobytes())
    return message


def ground_frame(camera: str) -> str:
    """Return the name of the frame below a camera's optical centre, where its scan starts."""
    return f'{camera}_ground'


def scan_message(header: Header, space: FreeSpace, seen: Seen) -> LaserScan:
    """
    Return the ranges to the first ground that is not drivable, as a laser would.

    inf = free to the range limit, NaN = not seen. Rays start at the camera's foot.
    """
    bearings = space.rays.bearings
    message = LaserScan(header=header)
    message.angle_min, message.angle_max = float(bearings[0]), float(bearings[-1])
    message.angle_increment = float((bearings[-1] - bearings[0]) / (len(bearings) - 1))
    message.range_min = float(max(0.01, 0.5 * np.nanmin(space.rays.ranges_m)))
    message.range_max = space.rays.limit_m
    message.ranges = array.array('f', seen.boundary_m.tobytes())
    return message


def polygon_message(header: Header, space: FreeSpace, seen: Seen) -> PolygonStamped:
    """Return the outline of the free space from left to right."""
    outline = space.outline(seen)
    step = max(1, math.ceil(len(outline) / _POLYGON_POINTS))
    message = PolygonStamped(header=header)
    message.polygon.points = [Point32(x=x, y=y, z=0.0) for x, y in outline[::step].tolist()]
    return message


def points_message(header: Header, cloud: GroundCloud, mask: np.ndarray,
                   memory: array.array) -> PointCloud2:
    """
    Return an organised cloud of a mask (H, W), NaN where there is no ground.

    :param memory: grows to the size of the data and becomes it; publish before it is used again.
    """
    height, width = mask.shape
    size = 12 * height * width
    if len(memory) != size:
        del memory[:]
        memory.frombytes(bytes(size))
    cloud.points(mask, np.frombuffer(memory, np.float32).reshape(height, width, 3))
    message = PointCloud2(header=header, height=height, width=width, is_dense=False,
                          is_bigendian=False, point_step=12, row_step=12 * width)
    message.fields = [PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32,
                                 count=1) for index, name in enumerate('xyz')]
    message.data = memory
    return message
