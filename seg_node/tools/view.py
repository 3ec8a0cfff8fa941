"""
Show what running nodes see: images, masks with class names, figures, diagnostics, in Rerun.

It subscribes as anybody may and changes nothing. Without a screen a web page is served, on this
machine only: from another one, take `ssh -L 9090:localhost:9090 -L 9876:localhost:9876 CAR` and
open the page that is printed, or give --bind.

exit codes: 0 ended by Ctrl-C, or its window was closed, or the file is full; 1 an error; 2 wrong
usage.
"""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
import os
from pathlib import Path
import signal
import sys
import tempfile
from typing import Any

from ..errors import ConfigError, SegNodeError
from ..viewing.stream import RerunStream
from ..viewing.viewer import LOOPBACK, Viewer, without_analytics
from .ros_arguments import split_ros_args
from .source_arguments import positive

_LOOK_S = 0.1


def main(argv: list[str] | None = None) -> int:
    """Run the viewer; return the exit code."""
    own, ros_args = split_ros_args(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(own)
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: received.append(number))
    try:
        return _run(options, ros_args, lambda: bool(received))
    except SegNodeError as error:
        print(f'view: {error}', file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, ros_args: list[str], stop: Callable[[], bool]) -> int:
    try:
        import rerun
    except ImportError:
        raise ConfigError('Rerun is not installed: `pip install rerun-sdk` (Python 3.11 or newer '
                          'and NumPy 2).') from None
    _check(options)
    from ..ros.transport import apply_transport_environment
    apply_transport_environment()
    with ExitStack() as stack:
        settings = stack.enter_context(tempfile.TemporaryDirectory(prefix='seg_node_view_'))
        os.environ.update(without_analytics(Path(settings)))
        recording = rerun.RecordingStream('seg_node')
        viewer = None
        if options.save is not None:
            recording.save(options.save)
            print(f'Recording to {options.save}; Ctrl-C ends it.', flush=True)
        else:
            viewer = stack.enter_context(Viewer(
                web=options.web, bind=options.bind, port=options.port,
                data_port=options.data_port, memory_mb=options.memory))
            recording.connect_grpc(viewer.data_url)
            print(f'Open {viewer.url}' if viewer.url else 'The viewer has opened.', flush=True)
        stack.callback(recording.disconnect)  # before the viewer ends
        return _listen(options, ros_args, recording, viewer, stop)


def _listen(options: argparse.Namespace, ros_args: list[str], recording: Any,
            viewer: Viewer | None, stop: Callable[[], bool]) -> int:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from rclpy.signals import SignalHandlerOptions

    from ..viewing.listener import Listener
    context = rclpy.Context()
    rclpy.init(args=ros_args or None, context=context,
               signal_handler_options=SignalHandlerOptions.NO)
    node = Node('seg_node_view', context=context, enable_rosout=False,
                start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    listener = Listener(node, RerunStream(recording, options.size), options.rate, options.ground)
    try:
        while not stop():
            executor.spin_once(timeout_sec=_LOOK_S)
            if viewer is not None and viewer.ended():
                if options.web:
                    viewer.check()
                return 0
            if options.save is not None and _megabytes(options.save) > options.max_mb:
                print(f'{options.save} has {options.max_mb:g} MB (--max-mb): it ends here.')
                return 0
    finally:
        executor.shutdown()
        node.destroy_node()
        context.shutdown()
        print(f'{listener.frames} frames were shown.', flush=True)
    return 0


def _check(options: argparse.Namespace) -> None:
    screen = os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
    if options.native and not screen:
        raise ConfigError('--native needs a screen, and neither DISPLAY nor WAYLAND_DISPLAY is '
                          'set. Leave it out for a web page, or give --save.')
    options.web = options.web or not (options.native or screen)
    if options.save is not None and options.save.exists() and not options.overwrite:
        raise ConfigError(f'{options.save} exists already; give another path or --overwrite.')
    if options.save is not None and not options.save.absolute().parent.is_dir():
        raise ConfigError(f'{options.save.absolute().parent} is no folder; make it, or give '
                          'another path.')


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6 if path.exists() else 0.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('view', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group()
    where.add_argument('--native', action='store_true',
                       help='open a window (default where there is a screen)')
    where.add_argument('--web', action='store_true',
                       help='serve a web page (default where there is none)')
    where.add_argument('--save', type=Path, metavar='FILE.rrd',
                       help='record to a file, for `rerun FILE.rrd` on any machine')
    parser.add_argument('--overwrite', action='store_true', help='replace FILE.rrd')
    parser.add_argument('--max-mb', type=positive, default=2000.0, metavar='MB',
                        help='end when FILE.rrd is as large (default: %(default)g)')
    parser.add_argument('--rate', type=positive, default=5.0, metavar='HZ',
                        help='frames a second that are shown of each camera (default: '
                             '%(default)g)')
    parser.add_argument('--size', type=int, default=640, metavar='PIXELS',
                        help='longer side of what is shown (default: %(default)s)')
    parser.add_argument('--ground', action='store_true',
                        help='show the ground outputs, too, which the node then has to make')
    parser.add_argument('--bind', default=LOOPBACK, metavar='ADDRESS',
                        help='address to listen on (default: %(default)s, this machine only)')
    parser.add_argument('--port', type=int, default=9090, help='of the web page (default: '
                        '%(default)s)')
    parser.add_argument('--data-port', type=int, default=9876,
                        help='of the data (default: %(default)s)')
    parser.add_argument('--memory', type=int, default=1000, metavar='MB',
                        help='that the viewer may use; the oldest goes first (default: '
                             '%(default)s)')
    return parser


if __name__ == '__main__':
    sys.exit(main())
