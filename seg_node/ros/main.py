"""Labels the pixels of camera images: the node's executable, which ends saying why."""

from collections.abc import Sequence
import os
import re
import signal
import sys
import textwrap
from types import FrameType
from typing import Any, TYPE_CHECKING

from ..errors import brief, ConfigError, place, SegNodeError
from .params_file import check_addressee, check_files
from .transport import apply_transport_environment

if TYPE_CHECKING:
    from .node import SegNode

_USAGE = """\
usage: seg_node --ros-args [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO] ...

  ros2 run seg_node seg_node --ros-args -p model:=bisenetv2_camvid -r camera/image_raw:=/usb/image
  ros2 launch seg_node segmentation.launch.py --show-args

Per camera: in <camera>/image_raw and camera_info; out ~/<camera>/mask, confidence, drivable,
overlay, state and more; ~/<camera>/enable stops and starts it. config/seg_node.yaml of this
package shows every parameter; docs/ tells the rest.
"""
_DEVICE_S = 0.7  # how long the end waits for the device
_END_S = 8.0  # how long all of the end may take
_TURN_S = 10.0  # how long the executor may take for one callback


class Signals:
    """
    SIGINT and SIGTERM, from the first line of the program on.

    :ivar name: of the one that came, '' = none has.
    """

    def __init__(self) -> None:
        self.name = ''
        self._starting = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def node_is_there(self) -> None:
        """From now on there is something to end in order."""
        self._starting = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        if self._starting:
            leave(0, f'ended by {self.name} before the node was there')


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT, SIGTERM or a fault; return the exit code."""
    signals = Signals()
    arguments = sys.argv[1:] if args is None else args
    try:
        own = _own_arguments(arguments)
        if {'-h', '--help'} & set(own):
            print(_help())
            return 0
        if own:
            raise ConfigError(f'{" ".join(own)}: unknown; parameters are given as --ros-args -p '
                              'name:=value or --params-file FILE (seg_node --help)')
        check_files(arguments)
        transport = apply_transport_environment()  # before rclpy: it fixes the middleware's set-up
        return _run(args, transport, signals)
    except Exception as error:  # one line, whatever it is; never a silent end
        print(f'seg_node: {_plain(error)}', file=sys.stderr, flush=True)
        return 1


def _own_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that are not for ROS: those outside ``--ros-args ... --``."""
    own, for_ros = [], False
    for argument in arguments:
        if argument == '--ros-args' or (for_ros and argument == '--'):
            for_ros = not for_ros or argument == '--ros-args'
        elif not for_ros:
            own.append(argument)
    return own


def _help() -> str:
    from .parameter_table import CAMERA, NODE
    lines = [_USAGE, 'Parameters:']
    for prefix, rows in (('', NODE), ('<camera>.', CAMERA)):
        for row in rows:
            allowed = f'; {row.allowed}' if row.allowed else ''
            lines.append(textwrap.fill(
                f'{prefix}{row.name} ({row.kind}, {row.default!r}{allowed}): {row.description}',
                96, initial_indent='  ', subsequent_indent='      '))
    return '\n'.join(lines)


def leave(code: int, reason: str) -> None:
    """End the process at once, with threads that may never come back; the reason is told."""
    print(f'seg_node: {reason}', file=sys.stderr, flush=True)
    _exit(code)


def _run(args: list[str] | None, transport: str, signals: Signals) -> int:
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from ..running.watchdog import Patience
    from .executors import make_executor
    from .node import SegNode

    # Own handlers: rclpy's would shut the context down before the node could end in order.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node = SegNode(transport, leave)
    signals.node_is_there()
    try:
        check_addressee(sys.argv[1:] if args is None else args, node.get_fully_qualified_name())
    except ConfigError as error:
        node.refuse(str(error))
    executor = make_executor(node.get_parameter('executor').value)
    executor.add_node(node)
    turn, patience = node.watchdog.watch('the executor'), Patience.of(_TURN_S)
    if node.end is None and node.get_parameter('autostart').value:
        node.start()
    while node.end is None and not signals.name:
        with turn.doing('a callback has run', lambda: patience):
            try:
                executor.spin_once(timeout_sec=0.1)
            except Exception as error:  # one message must not end all the others
                node.failed(f'a callback failed: {_plain(error)}')
    return _end(node, executor, signals.name)


def _end(node: 'SegNode', executor: Any, signal_name: str) -> int:
    """End in order, within a bounded time, with the reason as the last line."""
    import rclpy

    from .node import End, FAULT
    end = node.end or End(0, f'ended by {signal_name}{node.unfinished()}')
    node.watchdog.end_within(_END_S, end.code or FAULT, end.reason)
    node.report()
    node.shut_down()
    device_ended = node.release_device(_DEVICE_S)
    if not end.code and (late := node.watchdog.complaints()):
        end = End(FAULT, '; '.join([end.reason, *late]))
    if end.code:
        node.get_logger().fatal(end.reason)
    else:
        node.starts.end()
        node.get_logger().info(end.reason)
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()
    if not device_ended:
        _exit(end.code)  # the interpreter would wait for what runs on the device
    return end.code


def _plain(error: Exception) -> str:
    """Return one line about an error, with the place where it is one of this package's faults."""
    text = re.sub(r', at \S+:\d+', '', brief(error))  # the places in rcl's own sources
    told = isinstance(error, SegNodeError | ImportError | OSError)
    return text if told or type(error).__module__.startswith('rclpy') else (
        f'{text} ({place(error)})')


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == '__main__':
    sys.exit(main())
