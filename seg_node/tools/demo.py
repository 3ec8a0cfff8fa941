"""
Show the node at work: play a drive into it and keep what comes out.

Without --input the drive that the package ships is played, whose true labels are known. The node
runs as a process of its own; the frames go through ROS 2 as from a camera. In the output folder
lie the bag of the node's outputs, overlay.mp4, contact_sheet.png, report.json and node.log; of
several cameras each has its own pictures.

exit codes: 0 the figures add up; 1 they do not, or no mask came back, or nothing could be played
(the reason is printed); 2 wrong usage; 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
import json
import math
import os
from pathlib import Path
import signal
import subprocess
import sys
from threading import Event
import time
from types import FrameType

from ..errors import ConfigError, SegNodeError
from ..model.card import load_card
from ..model.taxonomy import load_taxonomy, remap_lut
from ..paths import shared
from ..playback.accounts import Accounts, DIAGNOSTICS
from ..playback.bag_writer import make_way
from ..playback.camera_runs import camera_runs, CameraRun, info_topics, truth_topic
from ..playback.domain import reserve_domain
from ..playback.drawing import draw
from ..playback.matched import matched, MatchedFrame
from ..playback.node_process import NodeProcess
from ..playback.open_source import open_source
from ..playback.replay_options import check_options, ReplayOptions, ReplayResult
from ..playback.report import as_table, latencies_ms, make_report
from ..playback.sources import FrameOptions, Source, Span
from ..playback.topics import legal
from ..scoring.metrics import BinaryIoU, ConfusionMatrix
from ..scoring.pictures import Painter
from .console import progress
from .source_arguments import add_source_arguments, positive

START_S = 120.0  # of the node's own time; the very first start compiles the kernels
_AT_MOST_S, _VIEW_ENDS_S = 3600.0, 20.0
_ANSWER_S = 120.0  # in lockstep; a node that hangs says so itself
TRUTH_TAXONOMY = 'camvid11'
REPORT, LOG, RESULT = 'report.json', 'node.log', 'result'
_PICTURES = ('overlay*.mp4', 'contact_sheet*.png')


class Signals:
    """
    What SIGINT, SIGTERM and SIGHUP do: unwind, so that the node is ended, too.

    Not while the drive plays: what a handler raises inside a callback may be swallowed there.
    The playing asks for it instead, unless a second signal shows that it does not.

    :ivar number: of the signal that came, 0 = none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._waits = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    @contextmanager
    def asked_for(self) -> Iterator[None]:
        """Let the block ask for ``number``; unwind at its end."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        self._unwind()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self.number = bool(self.number), number
        if again or not self._waits:
            self._unwind()

    def _unwind(self) -> None:
        if self.number:
            sys.exit(128 + self.number)


class Demo:
    """One run over a source; see :func:`run_demo`."""

    def __init__(self, source: Source, options: argparse.Namespace, signals: Signals) -> None:
        self._signals = signals
        self._source, self._out = source, options.out
        self._card = load_card(options.model)
        self._classes = self._card.main_output.classes
        self._runs = camera_runs(source, options.topics)
        self._span = Span(0, None if options.duration is None else round(options.duration * 1e9))
        self._epoch_ns = time.time_ns() if source.restamps else None
        self._answers = {run.played_topic: run.output('mask') for run in self._runs}
        self._replay = _replay_options(source, self._runs, options, self._span, self._epoch_ns)
        check_options(self._replay, source)
        self._parameters: dict[str, object] = {
            'model': options.model, 'cameras': [run.name for run in self._runs],
            'use_sim_time': True, 'diagnostics_period_s': 0.2}
        for run in self._runs:
            self._parameters.update(run.parameters)

    def run(self) -> dict:
        """Play, measure, draw; return the report."""
        result, accounts, death = self._play()
        report = make_report(result, accounts, self._answers, self._measure(result))
        report['problems'][:0] = filter(None, (death, result.broken))
        report['files'] = []
        self._write(report)
        for run in self._runs:
            if report['cameras'][run.name]['masks']:
                report['files'] += self._draw(run, result, report)
        report['files'] += [name for name in (REPORT, RESULT, LOG) if (self._out / name).exists()]
        self._write(report)
        return report

    def _play(self) -> tuple[ReplayResult, Accounts, str]:
        """Run the node and play the source into it; return also why the node died, if it did."""
        from ..ros.transport import apply_transport_environment
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        apply_transport_environment()
        from tqdm import tqdm

        from ..playback.player import replay
        print(f'Starting the node and playing {self._source.path} ...', flush=True)
        played = {run.source_topic for run in self._runs}
        total = sum(topic.count or 0 for topic in self._source.topics if topic.name in played)
        with NodeProcess(self._parameters, self._out / LOG) as node:
            accounts = Accounts({run.name: run.played_topic for run in self._runs},
                                {run.name: run.output('mask') for run in self._runs}, node.clock)
            with tqdm(total=total or None, desc='playing', unit=' frames', leave=False,
                      disable=not sys.stderr.isatty()) as bar:
                started = Event()

                def on_frame() -> None:
                    started.set()
                    bar.update()
                try:
                    with self._signals.asked_for():
                        result = replay(
                            self._source, self._replay, on_frame=on_frame,
                            settled=accounts.settled, on_message=accounts.on_message,
                            known=accounts.known,
                            stop=lambda: bool(self._signals.number) or node.ended() or (
                                not started.is_set() and node.clock() > START_S))
                except ConfigError:
                    node.check()  # why nobody listens
                    raise
            if not result.frames_sent:
                node.check()
                raise SegNodeError(f'the node was not ready after {START_S:g} s; its log is '
                                   f'{self._out / LOG}')
            return result, accounts, node.death()

    def _measure(self, result: ReplayResult) -> tuple[ConfusionMatrix, BinaryIoU] | None:
        """Compare the masks with the drive's truth; None when it or the classes are unknown."""
        topic = truth_topic(self._source)
        if topic is None or result.bag is None:
            return None
        truth_table = load_taxonomy(TRUTH_TAXONOMY)
        try:
            remap = remap_lut(self._classes, truth_table,
                              self._card.remaps.get(truth_table.name))
        except ConfigError as error:
            print(f'No comparison with the truth: {error}')
            return None
        confusion, drivable = ConfusionMatrix(truth_table), BinaryIoU()
        mask, area = (self._runs[0].output(name) for name in ('mask', 'drivable'))
        truths = self._matched(topic, self._runs[0], result)
        for truth in progress(truths, 'measuring'):
            if len(truth.outputs) == 2 and truth.image is not None:
                labels = truth.image[..., 0]  # decoded from mono8: three equal channels
                confusion.add(labels, remap[truth.outputs[mask]])
                drivable.add(truth_table.drivable_lut()[labels], truth.outputs[area],
                             labels < len(truth_table))
        return confusion, drivable

    def _draw(self, run: CameraRun, result: ReplayResult, report: dict) -> list[str]:
        suffix = f'_{run.name}' if len(self._runs) > 1 else ''
        frames = self._matched(run.source_topic, run, result)
        return draw(progress(frames, f'drawing {run.name}', report['cameras'][run.name]['sent']),
                    run, self._out, suffix, Painter(self._classes), report,
                    latencies_ms(result, run.played_topic, run.output('mask')))

    def _matched(self, topic: str, run: CameraRun,
                 result: ReplayResult) -> Iterator[MatchedFrame]:
        """Yield the images of a topic with what a camera's frames of the same stamps became."""
        frames = matched(self._source, topic, self._epoch_ns, result.bag,
                         [run.output('mask'), run.output('drivable')], self._span,
                         {stamp for stamp, _ in result.sent[run.played_topic]})
        return islice(frames, result.counts[run.played_topic])

    def _write(self, report: dict) -> None:
        (self._out / REPORT).write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')


def run_demo(options: argparse.Namespace, signals: Signals) -> dict:
    """
    Do all of it; return the report.

    :raises SegNodeError: when it cannot begin; nothing of an earlier run is touched then.
    """
    frames = None if options.transport is None else FrameOptions(transport=options.transport)
    with open_source(options.input or shared('drive'), frames,
                     dict(options.as_encoding)) as source:
        demo = Demo(source, options, signals)
        _clear(options.out, source.path)
        with _own_domain(), _watching(options.view):
            report = demo.run()
            print(f'\n{as_table(report)}\n\nIn {options.out}: {", ".join(report["files"])}')
            return report


@contextmanager
def _own_domain() -> Iterator[None]:
    """Stay away from other cameras and nodes on this machine, unless a domain was asked for."""
    if 'ROS_DOMAIN_ID' in os.environ:
        yield
        return
    domain, reservation = reserve_domain()
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    print(f'To watch it: ROS_DOMAIN_ID={domain}', flush=True)
    try:
        yield
    finally:
        reservation.close()
        del os.environ['ROS_DOMAIN_ID']


@contextmanager
def _watching(wanted: bool) -> Iterator[None]:
    """Have `view` run beside, and stay for who sits at a terminal."""
    if not wanted:
        yield
        return
    view = subprocess.Popen([sys.executable, '-m', 'seg_node.tools.view'],
                            stdin=subprocess.DEVNULL)
    try:
        yield
        if sys.stdin.isatty() and view.poll() is None:
            print('The viewer stays open; Ctrl-C ends it.', flush=True)
            try:
                view.wait()
            except SystemExit as end:
                if end.code != 128 + signal.SIGINT:
                    raise
    finally:
        view.send_signal(signal.SIGINT)
        try:
            view.wait(_VIEW_ENDS_S)
        except subprocess.TimeoutExpired:
            view.kill()
            view.wait()


def _clear(out: Path, source: Path) -> None:
    """Remove what an earlier run left in the output folder, and nothing else."""
    old = [path for pattern in (*_PICTURES, REPORT, LOG, RESULT) for path in out.glob(pattern)]
    for path in old:
        if path.resolve() in (source.resolve(), *source.resolve().parents):
            raise ConfigError(f'{source} is the result of an earlier run, which this one would '
                              'replace. Give --out another folder.')
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'--out {out} cannot be made: {error.strerror}. Give another '
                          'folder.') from error
    make_way(out / RESULT, overwrite=True)
    for path in old:
        if path.name != RESULT:
            path.unlink()


def _replay_options(source: Source, runs: list[CameraRun], options: argparse.Namespace,
                    span: Span, epoch_ns: int | None) -> ReplayOptions:
    """Play the cameras and their camera_info; record what the node makes of them."""
    outputs = ('mask', 'confidence', 'drivable', 'camera_info', 'label_info*')
    names = {run.source_topic: run.played_topic for run in runs}
    names |= {topic: legal(topic) for topic in info_topics(source)}
    return ReplayOptions(
        # As `ros2 bag play` has it; the node wakes for each.
        rate=options.rate or (math.inf if options.lockstep else 1.0), clock_hz=40.0, span=span,
        max_gap_s=options.max_gap, wait_s=_AT_MOST_S, wait_for_all=True,
        lockstep=({run.source_topic: run.output('mask') for run in runs} if options.lockstep
                  else None), lockstep_timeout_s=_ANSWER_S,
        tolerant=True,
        wait_for=[run.output(name) for run in runs for name in ('mask', 'drivable')],
        record=options.out / RESULT, overwrite=True,
        record_topics=[*[run.output(name) for run in runs for name in outputs], DIAGNOSTICS],
        start_stamp_ns=epoch_ns,
        topics=list(names), remap={old: new for old, new in names.items()
                                   if new.lstrip('/') != old.lstrip('/')})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='demo', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--input', type=Path, help='video, bag, folder of images or of a drive '
                        '(python -m street); default: the drive that the package ships')
    parser.add_argument('--model', default='deeplabv3plus_lite0_camvid',
                        help='model name or card folder (default: %(default)s)')
    parser.add_argument('--rate', type=positive,
                        help='seconds of the drive per second (default: 1, in lockstep as fast as '
                        'the node answers)')
    parser.add_argument('--lockstep', action='store_true',
                        help='drop no frame: send the next one when the node has answered')
    parser.add_argument('--duration', type=positive, metavar='S',
                        help='play the first S seconds (default: all)')
    parser.add_argument('--topics', nargs='+', default=[], metavar='NAME',
                        help='play these cameras only (wildcards allowed; default: every image '
                        'topic)')
    add_source_arguments(parser)
    parser.add_argument('--view', action='store_true',
                        help='show live what the node sees, in Rerun; it stays open until Ctrl-C')
    parser.add_argument('--transport', choices=('raw', 'compressed'),
                        help='how pictures travel that are not in a bag: bgr8 or JPEG '
                        '(default: raw)')
    parser.add_argument('--out', type=Path, default=Path('out'),
                        help='folder for the results (default: %(default)s)')
    return parser


def main(args: list[str] | None = None) -> int:
    """Run the demo from the command line."""
    options = _parser().parse_args(args)
    signals = Signals()
    try:
        report = run_demo(options, signals)
    except (SegNodeError, OSError) as error:  # a full disk, a folder that is read-only
        print(f'demo: {error}', file=sys.stderr)
        return 1
    for problem in report['problems']:
        print(f'demo: {problem}', file=sys.stderr)
    return 1 if report['problems'] else 0


if __name__ == '__main__':
    sys.exit(main())
