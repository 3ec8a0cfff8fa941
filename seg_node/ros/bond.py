"""
The bond by which Nav2's lifecycle manager sees that a node lives.

Written for the executor's own thread: bondpy sends from a thread of its own, which goes on saying
that all is well when the executor hangs.
"""

from typing import Any
import uuid

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile

_TOPIC = 'bond'
_TIMEOUT_S = 4.0  # the default on both sides: after this without a heartbeat the bond is broken


class Bond:
    """
    Sends heartbeats from ``start`` to ``stop``, as bondcpp's side of a Nav2 server does.

    :param period_s: between two heartbeats; 0 = there is no bond.
    """

    def __init__(self, node: LifecycleNode, period_s: float) -> None:
        self._node = node
        self._period_s = period_s
        self._status = _message_type() if period_s else None
        self._instance = ''
        self._ended_with = ''  # the other side's instance that has said it ends
        self._publisher: Any = None
        self._subscription: Any = None
        self._timer: Any = None

    def start(self, *, managed: bool) -> None:
        """
        Begin a new bond.

        :param managed: whether others bring the node up: then it is said where there is none.
        """
        if self._status is None:
            if managed and self._period_s:
                self._node.get_logger().info(
                    "no bond, as the package bond is not installed: Nav2's lifecycle manager "
                    'needs it (apt install ros-$ROS_DISTRO-bond) or bond_timeout: 0.0')
            return
        if self._timer is not None:
            return
        self._instance, self._ended_with = str(uuid.uuid4()), ''
        qos = QoSProfile(depth=10)
        # A plain publisher: it must still speak while the node is being deactivated.
        self._publisher = self._node.create_publisher(self._status, _TOPIC, qos)
        self._subscription = self._node.create_subscription(
            self._status, _TOPIC, self._on_status, qos)
        self._timer = self._node.create_timer(
            self._period_s, self._beat, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._beat()

    def stop(self) -> None:
        """End the bond, and tell the other side."""
        if self._timer is None:
            return
        self._send(active=False)
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._publisher)
        self._timer = self._subscription = self._publisher = None

    def _beat(self) -> None:
        if not self._ended_with:
            self._send(active=True)

    def _on_status(self, status: Any) -> None:
        if status.id != self._node.get_name() or status.instance_id == self._instance:
            return
        if not status.active:
            self._ended_with = status.instance_id
            self._send(active=False)  # it waits for this
        elif status.instance_id != self._ended_with:
            self._ended_with = ''  # another manager

    def _send(self, *, active: bool) -> None:
        assert self._status is not None
        message = self._status(id=self._node.get_name(), instance_id=self._instance,
                               active=active, heartbeat_timeout=_TIMEOUT_S,
                               heartbeat_period=float(self._period_s))
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def _message_type() -> Any:
    try:
        from bond.msg import Status
    except ImportError:
        return None
    return Status
