"""Another ROS 2 node in the test's own process, in a thread of its own."""

from threading import Thread
import time

from seg_node.ros.transport import apply_transport_environment

apply_transport_environment()  # before rclpy, as every process with large images must

# ruff: noqa: E402
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Peer:
    """Keeps the bytes it hears and may answer them; a context manager."""

    def __init__(self, context=None):
        self._own_context = None
        if context is None:
            context = self._own_context = Context()
            rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node('peer', context=context, enable_rosout=False,
                         start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._stopping = False
        self._thread = Thread(target=self._spin, daemon=True)

    def hear(self, message_type, topic, qos=RELIABLE, react=None):
        """Subscribe; return the list that (monotonic ns, bytes) are put into."""
        heard = []

        def receive(data):
            heard.append((time.monotonic_ns(), data))
            if react is not None:
                react(data)
        self.node.create_subscription(message_type, topic, receive, qos, raw=True)
        return heard

    def speak(self, message_type, topic, qos=RELIABLE):
        """Return a publisher."""
        return self.node.create_publisher(message_type, topic, qos)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping = True
        self._thread.join(20)
        self._executor.shutdown()
        self.node.destroy_node()
        if self._own_context is not None:
            self._own_context.shutdown()

    def _spin(self):
        while not self._stopping:
            self._executor.spin_once(timeout_sec=0.05)


def wait_until(condition, timeout_s=20.0):
    """Wait until a condition holds; return whether it does."""
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()
