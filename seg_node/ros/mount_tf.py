"""A camera's mount from TF, where tf2_ros is installed."""

from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from ..errors import ConfigError
from ..ground.calibration import Mount, mount_of_transform
from ..image.wire import Header

#: Mounts that differ by less are one: suspensions and joint encoders tremble.
SAME_M, SAME_RAD = 0.005, 0.0009


class MountFromTf:
    """
    Looks the camera's optical frame up in the vehicle's base frame, at an image's stamp.

    :param base_frame: its plane z = 0 is the ground.
    :raises ConfigError: tf2_ros is not installed.
    """

    def __init__(self, node: Node, base_frame: str) -> None:
        try:
            import tf2_ros
        except ImportError as error:
            raise ConfigError(
                'mount_from_tf is true, but tf2_ros is not installed '
                f'({error}): install ros-<distro>-tf2-ros-py, or give the mount in the '
                'calibration file and set mount_from_tf to false') from error
        self._base_frame = base_frame
        self._error: Any = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer(cache_time=Duration(seconds=10))
        # Its own node's executor delivers /tf; a thread of its own would never end in time.
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)
        self._last: Mount | None = None

    def at(self, header: Header) -> Mount:
        """
        Return the mount of the camera whose image this is; one object as long as it is the same.

        :raises ConfigError: TF does not know it at that time, or what it says is no transform.
        """
        try:
            found = self._buffer.lookup_transform(
                self._base_frame, header.frame_id, Time(nanoseconds=header.stamp_ns))
        except self._error as error:
            raise ConfigError(
                f'TF has no transform from {header.frame_id!r} to {self._base_frame!r} at '
                f'{header.stamp_ns / 1e9:.3f} s ({" ".join(str(error).split())}): publish it (a '
                'robot_state_publisher, static_transform_publisher), correct base_frame, or give '
                'the mount in the calibration file') from error
        moved, turned = found.transform.translation, found.transform.rotation
        mount = mount_of_transform(
            header.frame_id, self._base_frame, (moved.x, moved.y, moved.z),
            (turned.x, turned.y, turned.z, turned.w))
        if self._last is None or not self._last.is_close(mount, SAME_M, SAME_RAD):
            self._last = mount
        return self._last
