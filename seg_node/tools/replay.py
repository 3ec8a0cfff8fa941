"""The player on the command line: a bag, a video or a folder of images becomes a live camera."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
import math
import signal
import sys
from typing import Any

from ..errors import SegNodeError
from ..paths import shared
from ..playback.open_source import open_source
from ..playback.sources import FrameOptions, Source, Span
from .ros_arguments import split_ros_args
from .source_arguments import add_source_arguments, finite, positive

_EPILOG = """examples:
  replay drive.mcap --remap /front/image_raw:=/camera/image_raw
  replay drive.mp4 --loop
  replay frames/ --fps 5 --transport compressed --camera-info demo_camera
  replay drive.mp4 --record out/ --lockstep /seg_node/camera/mask

A bag's clock is its recorded time: start the node with use_sim_time:=true, or its diagnostics
call every frame old. Videos and folders are stamped with the wall clock, unless --start-stamp.

exit codes: 0 all sent; 1 an error, or frames without an answer in --lockstep; 130 Ctrl-C, 143
SIGTERM, or 0 for both with --ros-args, as from a launch file. The bag of --record is complete in
every case.
"""
_FRAME_OPTIONS = ('topic', 'frame_id', 'fps', 'transport', 'camera_info')
# What scripts expect of a program that ended by a signal.
_SIGNAL_EXIT = 128


def main(argv: list[str] | None = None) -> int:
    """Run the player; return the exit code."""
    own, ros_args = split_ros_args(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(own)
    received: list[int] = []
    previous = {number: signal.signal(number, lambda number, _: received.append(number))
                for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = _run(options, ros_args, received)
    except SegNodeError as error:
        print(f'replay: {error}', file=sys.stderr)
        return 1
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    # A launch file ends its programs by SIGINT, and calls any code but 0 a crash.
    return _SIGNAL_EXIT + received[0] if received and not ros_args else code


def _run(options: Namespace, ros_args: Sequence[str], received: list[int]) -> int:
    from ..ros.transport import apply_transport_environment
    apply_transport_environment()
    from tqdm import tqdm

    from ..playback.player import replay
    given = {name: getattr(options, name) for name in _FRAME_OPTIONS
             if getattr(options, name) is not None}
    path = options.source or shared('drive')
    with open_source(path, FrameOptions(**given) if given else None,
                     dict(options.as_encoding)) as source:
        total = _total(source, options)
        with tqdm(total=total, unit=' frames', disable=not sys.stderr.isatty()) as bar:
            result = replay(source, _replay_options(options, source), stop=lambda: bool(received),
                            on_frame=bar.update, ros_args=ros_args)
    _report(result, bool(options.record))
    return 1 if result.lockstep_timeouts else 0


def _replay_options(options: Namespace, source: Source) -> Any:
    from ..playback.replay_options import ReplayOptions
    return ReplayOptions(
        rate=options.rate or (1.0 if options.lockstep is None else math.inf),
        max_gap_s=options.max_gap, loops=options.loop, clock=not options.no_clock,
        span=_span(options), topics=options.topics,
        remap=dict(options.remap), wait_s=options.wait_for_subscribers, record=options.record,
        overwrite=options.overwrite, record_topics=options.record_topics,
        record_input=options.record_input, lockstep=_lockstep(options, source),
        lockstep_timeout_s=options.lockstep_timeout, linger_s=options.linger,
        start_stamp_ns=(None if options.start_stamp is None
                        else round(options.start_stamp * 1e9)))


def _lockstep(options: Namespace, source: Source) -> str | dict[str, str] | None:
    """Return the topic that answers, or (none named) what the node's cameras answer on."""
    if options.lockstep is None or options.lockstep:
        return options.lockstep
    from ..playback.camera_runs import camera_runs
    return {run.source_topic: run.output('mask') for run in camera_runs(source, options.topics)}


def _span(options: Namespace) -> Span:
    return Span(round(options.start_offset * 1e9),
                None if options.duration is None else round(options.duration * 1e9))


def _total(source: Source, options: Namespace) -> int | None:
    """Return how many images there are to send, if that can be known."""
    counts = [topic.count for topic in source.topics if topic.is_image and not topic.on_request]
    if options.topics or not options.loop or _span(options) != Span() or None in counts:
        return None
    return options.loop * sum(count or 0 for count in counts)


def _report(result: Any, recording: bool) -> None:
    for notice in result.notices:
        print(f'replay: {notice}', file=sys.stderr)
    for topic, count in sorted(result.lost.items()):
        print(f'replay: {count} messages of {topic} were lost on the way', file=sys.stderr)
    if result.lockstep_timeouts:
        print(f'replay: {result.lockstep_timeouts} of {result.frames_sent} frames got no answer',
              file=sys.stderr)
    if recording and result.bag is None:
        print('replay: nothing came that could be recorded, so no bag was written',
              file=sys.stderr)
    late = sorted(result.late_ms) or [0.0]
    print(f'sent {result.frames_sent} frames in {result.wall_s:.2f} s'
          f'{" (stopped early)" if result.interrupted else ""}, late by '
          f'{late[len(late) // 2]:.2f} ms (median), {late[-1]:.2f} ms (most)')
    if result.bag is not None:
        print(f'recorded {sum(result.recorded.values())} messages of {len(result.recorded)} '
              f'topics in {result.bag}')


def _renaming(text: str) -> tuple[str, str]:
    old, separator, new = text.partition(':=')
    if not (old and separator and new):
        raise ValueError(text)
    return old, new


_renaming.__name__ = 'OLD:=NEW'  # argparse puts it into its message


def _parser() -> ArgumentParser:
    parser = ArgumentParser('replay', description=__doc__, epilog=_EPILOG,
                            formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='SOURCE', nargs='?',
                        help='rosbag2 folder, .db3, .mcap or .bag file, video, folder of images '
                        'or of a drive; default: the drive that the package ships')
    time = parser.add_argument_group('time')
    time.add_argument('--rate', type=positive, metavar='X',
                      help='speed factor of recorded time (default 1; in lockstep as fast as the '
                           'answers come)')
    time.add_argument('--loop', type=int, nargs='?', const=0, default=1, metavar='N',
                      help='play N times; without N until Ctrl-C')
    time.add_argument('--start-offset', type=finite, default=0.0, metavar='S',
                      help='start S seconds into the source')
    time.add_argument('--duration', type=finite, metavar='S', help='play S seconds of it')
    time.add_argument('--no-clock', action='store_true', help='do not publish /clock')
    add_source_arguments(parser.add_argument_group('source'))
    _add_topics(parser)
    _add_frames(parser)
    _add_recording(parser)
    return parser


def _add_topics(parser: ArgumentParser) -> None:
    group = parser.add_argument_group('topics')
    group.add_argument('--topics', nargs='+', default=[], metavar='NAME',
                       help='send these only (wildcards allowed; default: every topic whose '
                            'message type is installed)')
    group.add_argument('--remap', nargs='+', type=_renaming, default=[], metavar='OLD:=NEW',
                       help='send topics under other names')
    group.add_argument('--wait-for-subscribers', type=finite, default=10.0, metavar='S',
                       help='wait so long for a subscriber of an image before the first frame '
                            '(default 10; 0 = do not wait)')
    group.add_argument('--lockstep', metavar='TOPIC', nargs='?', const='',
                       help='send the next frame only when TOPIC answered with the stamp of the '
                            'last one (default: /seg_node/<camera>/mask of each camera)')
    group.add_argument('--lockstep-timeout', type=finite, default=10.0, metavar='S',
                       help='count a frame as unanswered after S seconds (default 10)')


def _add_frames(parser: ArgumentParser) -> None:
    group = parser.add_argument_group('videos and folders of images')
    group.add_argument('--fps', type=finite,
                       help="frames per second (default: a video's own, 10 for a folder)")
    group.add_argument('--topic', help='image topic (default camera/image_raw)')
    group.add_argument('--frame-id', metavar='NAME',
                       help="default: the calibration's, else camera_optical_frame")
    group.add_argument('--transport', choices=('raw', 'compressed'),
                       help='raw: bgr8 images (default); compressed: JPEG on TOPIC/compressed')
    group.add_argument('--camera-info', metavar='FILE',
                       help='calibration to send as camera_info beside each frame')
    group.add_argument('--start-stamp', type=finite, metavar='S',
                       help='stamp of the first frame, seconds (default: the wall clock)')


def _add_recording(parser: ArgumentParser) -> None:
    group = parser.add_argument_group('recording')
    group.add_argument('--record', metavar='OUT', help='write an mcap bag of what comes back')
    group.add_argument('--record-topics', nargs='+', default=[], metavar='NAME',
                       help='record these, sent or heard (wildcards allowed; default: '
                            '/seg_node/*, /diagnostics and the camera_info sent)')
    group.add_argument('--record-input', action='store_true',
                       help='record everything that is sent, too')
    group.add_argument('--overwrite', action='store_true', help='replace a bag at OUT')
    group.add_argument('--linger', type=finite, default=1.0, metavar='S',
                       help='after the last frame, stop when no answer came for S seconds '
                            '(default 1)')


if __name__ == '__main__':
    sys.exit(main())
