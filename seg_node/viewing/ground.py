"""The ground outputs of a camera, in metres."""

from collections.abc import Callable
import time
from typing import Any

from geometry_msgs.msg import PolygonStamped
from nav_msgs.msg import OccupancyGrid
import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import LaserScan, PointCloud2

from .stream import RerunStream

_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_POINTS = 5000  # shown of a cloud
_FREE, _BOUNDARY = 0, 100  # of an occupancy grid


class GroundListener:
    """Follows one camera's ground outputs; the node makes them because somebody listens."""

    def __init__(self, node: Node, stream: RerunStream, prefix: str, camera: str,
                 rate_hz: float) -> None:
        self._stream, self._path = stream, f'{camera}/ground'
        self._period_s = 1 / rate_hz
        for name, kind, show in (('free_space', PolygonStamped, self._outline),
                                 ('drivable_grid', OccupancyGrid, self._grid),
                                 ('scan', LaserScan, self._scan),
                                 ('ground_points', PointCloud2, self._cloud)):
            node.create_subscription(kind, f'{prefix}/{name}', self._limited(show), _NEWEST)

    def _limited(self, show: Callable[[Any, int], None]) -> Callable[[Any], None]:
        next_s = 0.0

        def receive(message: Any) -> None:
            nonlocal next_s
            now_s = time.monotonic()
            if now_s >= next_s:
                next_s = now_s + self._period_s
                stamp = message.header.stamp
                show(message, stamp.sec * 10 ** 9 + stamp.nanosec)
        return receive

    def _outline(self, message: PolygonStamped, stamp_ns: int) -> None:
        self._stream.outline(f'{self._path}/free_space', stamp_ns, np.array(
            [(point.x, point.y, point.z) for point in message.polygon.points]).reshape(-1, 3))

    def _grid(self, message: OccupancyGrid, stamp_ns: int) -> None:
        info = message.info
        cells = np.asarray(message.data).reshape(info.height, info.width)
        for name, value in (('free', _FREE), ('boundary', _BOUNDARY)):
            rows, columns = np.nonzero(cells == value)
            points = np.column_stack([
                info.origin.position.x + (columns + 0.5) * info.resolution,
                info.origin.position.y + (rows + 0.5) * info.resolution, np.zeros(len(rows))])
            self._stream.points(f'{self._path}/grid/{name}', stamp_ns, points, None)

    def _scan(self, message: LaserScan, stamp_ns: int) -> None:
        ranges = np.asarray(message.ranges)
        angles = message.angle_min + np.arange(len(ranges)) * message.angle_increment
        hit = np.isfinite(ranges)
        self._stream.points(f'{self._path}/scan', stamp_ns, np.column_stack(
            [ranges * np.cos(angles), ranges * np.sin(angles), np.zeros(len(ranges))])[hit], None)

    def _cloud(self, message: PointCloud2, stamp_ns: int) -> None:
        offsets = {field.name: field.offset for field in message.fields}
        count = message.width * message.height
        rows = np.frombuffer(bytes(message.data), np.uint8).reshape(count, message.point_step)
        points = np.column_stack([
            np.ascontiguousarray(rows[:, offsets[axis]:offsets[axis] + 4]).view('<f4')
            for axis in 'xyz'])
        seen = np.flatnonzero(np.isfinite(points).all(axis=1))
        self._stream.points(f'{self._path}/points', stamp_ns,
                            points[seen[::max(1, len(seen) // _POINTS)]], None)
