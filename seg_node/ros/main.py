"""The executable: one node, one executor thread, a clean end on Ctrl-C."""

import signal
import sys
from threading import Event

from .transport import apply_transport_environment


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; return the exit code."""
    transport = apply_transport_environment()  # before rclpy: it fixes the middleware's set-up
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.lifecycle import TransitionCallbackReturn
    from rclpy.signals import SignalHandlerOptions

    from .node import SegNode

    # Own handlers: rclpy's would shut the context down before the node could end in order.
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node = SegNode(transport)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    code = 0
    try:
        if node.get_parameter('autostart').value:
            for transition in (node.trigger_configure, node.trigger_activate):
                if transition() != TransitionCallbackReturn.SUCCESS:
                    code = 1
                    stop.set()
                    break
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
    finally:
        node.shut_down()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()
    return code


if __name__ == '__main__':
    sys.exit(main())
