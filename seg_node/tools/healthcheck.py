"""
Tell whether the node is well, by what it says on /diagnostics; for a container's health check.

Well is a node that speaks and reports no error of its own, whatever its lifecycle state. What a
camera or its driver does wrong is said, too, but only with --cameras is it the node's fault.
"""

import argparse
from collections.abc import Sequence
import os
import sys
import time
from typing import Protocol

from ..paths import shared
from ..ros.transport import PROFILE, profile_in_force, profile_variables, TRANSPORTS

#: Of diagnostic_msgs/DiagnosticStatus.
_LEVELS = ('OK', 'WARN', 'ERROR', 'STALE')
_OF_NODE = 'node'


class Status(Protocol):
    """What is read of a diagnostic_msgs/DiagnosticStatus."""

    level: bytes
    name: str
    message: str


def judged(statuses: Sequence[Status], node: str, cameras: bool) -> tuple[bool, str]:
    """
    Return whether a node is well, and what it and its cameras say.

    :param node: its full name without the first slash.
    :param cameras: whether their errors count.
    :returns: False and ``''`` where the statuses are none of this node's.
    """
    own = [status for status in statuses if status.name.startswith(f'{node}: ')]
    if not any(status.name == f'{node}: {_OF_NODE}' for status in own):
        return False, ''
    well, lines = True, []
    for status in own:
        level, part = status.level[0], status.name.removeprefix(f'{node}: ')
        lines.append(f'{part} {_LEVELS[min(level, 3)]}: {status.message}')
        if level >= 2 and (part == _OF_NODE or cameras):
            well = False
    return well, '; '.join(lines)


def listen(node: str, cameras: bool, seconds: float) -> tuple[bool, str]:
    """Wait for what a node says next, at most so many seconds; return it, judged."""
    _without_shared_memory()
    from diagnostic_msgs.msg import DiagnosticArray
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    found = (False, '')

    def hear(message: DiagnosticArray) -> None:
        nonlocal found
        found = found if found[1] else judged(message.status, node, cameras)
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        listener = rclpy.create_node('seg_node_healthcheck', context=context, enable_rosout=False,
                                     start_parameter_services=False)
        listener.create_subscription(DiagnosticArray, '/diagnostics', hear, 10)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(listener)
        end = time.monotonic() + seconds
        while not found[1] and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
        executor.shutdown()
        listener.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    return found if found[1] else (
        False, f'/{node} has said nothing on /diagnostics for {seconds:g} s')


def _without_shared_memory() -> None:
    """
    Let Fast DDS use UDP alone: shared memory is scarce in a container, and is for the images.

    A profile of the user's own is left in force.
    """
    profile = profile_in_force()
    if profile is None or profile == shared(*PROFILE):
        for name in profile_variables():
            os.environ.pop(name, None)
        os.environ.setdefault(TRANSPORTS, 'UDPv4')


def main(args: list[str] | None = None) -> int:
    """Run from the command line; 0 when the node is well, 1 when it is not."""
    parser = argparse.ArgumentParser(prog='healthcheck', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--node', default='seg_node', help='name of the node, with its namespace '
                        '(default: %(default)s)')
    parser.add_argument('--cameras', action='store_true',
                        help='an error of a camera makes the node unwell, too')
    parser.add_argument('--seconds', type=float, default=5.0,
                        help='to wait for a message (default: %(default)g)')
    options = parser.parse_args(args)
    well, text = listen(options.node.lstrip('/'), options.cameras, options.seconds)
    print(text)
    return 0 if well else 1


if __name__ == '__main__':
    sys.exit(main())
