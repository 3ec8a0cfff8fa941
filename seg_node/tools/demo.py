"""
Show the node at work: play a drive into it and keep what comes out.

Without --input the drive that the package ships is played, whose true labels are known. The node
runs as a process of its own; the frames go through ROS 2 as from a camera. In the output folder
lie the bag of the node's outputs, overlay.mp4, contact_sheet.png, report.json and node.log.
"""

import argparse
from dataclasses import dataclass
import json
import os
from pathlib import Path
import re
import sys
import time

import numpy as np

from ..errors import ConfigError, SegNodeError
from ..model.card import load_card
from ..model.taxonomy import ClassTable, load_taxonomy, remap_lut
from ..paths import shared
from ..playback.drive_source import TRUTH
from ..playback.matched import matched, MatchedFrame
from ..playback.node_process import NodeProcess
from ..playback.open_source import open_source
from ..playback.replay_options import ReplayOptions, ReplayResult
from ..playback.report import as_table, latencies_ms, make_report
from ..playback.sources import CAMERA_INFO, COMPRESSED_IMAGE, Source, Topic
from ..scoring.metrics import BinaryIoU, ConfusionMatrix
from ..scoring.pictures import contact_sheet, OverlayVideo, Painter
from .console import progress

TILES = 12
START_S = 90.0  # the very first start compiles the kernels
TRUTH_TAXONOMY = 'camvid11'
_SUFFIX = '/compressed'


@dataclass(frozen=True)
class CameraRun:
    """One image topic of the source and the camera that the node gets for it."""

    name: str
    source_topic: str
    played_topic: str
    compressed: bool

    @property
    def parameters(self) -> dict[str, object]:
        """The node's parameters for this camera."""
        return {f'{self.name}.image_topic': self.played_topic.removesuffix(_SUFFIX)
                if self.compressed else self.played_topic,
                f'{self.name}.transport': 'compressed' if self.compressed else 'raw'}

    def output(self, name: str) -> str:
        """Return the topic of one of the node's outputs for this camera."""
        return f'/seg_node/{self.name}/{name}'


def is_truth(topic: Topic) -> bool:
    """Return whether a topic holds a drive's true labels instead of a camera's images."""
    return topic.is_image and topic.name.rpartition('/')[2] == TRUTH


def camera_runs(source: Source) -> list[CameraRun]:
    """Return a camera for each image topic; of a raw and compressed pair the raw one."""
    topics = [topic for topic in source.topics if topic.is_image and not is_truth(topic)]
    names = {topic.name for topic in topics}
    runs: list[CameraRun] = []
    for topic in topics:
        compressed = topic.type == COMPRESSED_IMAGE
        base = topic.name.removesuffix(_SUFFIX)
        if compressed and base in names - {topic.name}:
            continue
        parts = [part for part in base.split('/') if part and not part.startswith('image')]
        name = re.sub(r'\W', '_', '_'.join(parts)) or 'camera'
        name = name if name[0].isalpha() else f'camera_{name}'
        if any(run.name == name for run in runs):
            name = f'{name}_{len(runs)}'
        played = topic.name if topic.name.startswith('/') else f'/{topic.name}'
        if compressed and not played.endswith(_SUFFIX):
            played += _SUFFIX  # where the node looks for compressed images
        runs.append(CameraRun(name, topic.name, played, compressed))
    return runs


def run_demo(options: argparse.Namespace) -> dict:
    """Do all of it; return the report."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    classes = load_card(options.model).main_output.classes
    path = options.input or shared('drive')
    with open_source(path) as source:
        runs = camera_runs(source)
        epoch_ns = time.time_ns() if source.restamps else None
        result = _play(source, _node_parameters(options.model, runs), out,
                       _replay_options(source, runs, options, epoch_ns))
        if result.bag is None:
            raise SegNodeError(f'nothing came back from the node; its log is {out / "node.log"}')
        known = any(is_truth(topic) for topic in source.topics)
        quality = _measure(path, epoch_ns, result.bag, runs[0], classes) if known else None
        answers = {run.played_topic: run.output('mask') for run in runs}
        report = make_report(result, answers, [run.name for run in runs], quality)
        times_ms = latencies_ms(result, *next(iter(answers.items())))
        _draw(source, runs[0], epoch_ns, result.bag, out, Painter(classes), report, times_ms)
    (out / 'report.json').write_text(json.dumps(report, indent=1) + '\n')
    return report


def _node_parameters(model: str, runs: list[CameraRun]) -> dict[str, object]:
    parameters: dict[str, object] = {
        'model': model, 'cameras': [run.name for run in runs], 'use_sim_time': True,
        'diagnostics_period_s': 0.2}
    for run in runs:
        parameters.update(run.parameters)
    return parameters


def _replay_options(source: Source, runs: list[CameraRun], options: argparse.Namespace,
                    epoch_ns: int | None) -> ReplayOptions:
    """Play the cameras and their camera_info; record what the node makes of them."""
    outputs = ('mask', 'confidence', 'drivable', 'camera_info', 'label_info*')
    return ReplayOptions(
        rate=options.rate, wait_s=START_S, record=options.out / 'result', overwrite=True,
        record_topics=[*[run.output(name) for run in runs for name in outputs], '/diagnostics'],
        start_stamp_ns=epoch_ns,
        topics=[*[run.source_topic for run in runs],
                *[topic.name for topic in source.topics if topic.type == CAMERA_INFO]],
        remap={run.source_topic: run.played_topic for run in runs
               if run.played_topic.lstrip('/') != run.source_topic.lstrip('/')})


def _play(source: Source, parameters: dict[str, object], out: Path,
          options: ReplayOptions) -> ReplayResult:
    """Run the node, play the source into it, and record what it says."""
    from ..ros.transport import apply_transport_environment
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    apply_transport_environment()
    from tqdm import tqdm

    from ..playback.player import replay
    print('Starting the node and playing the drive ...', flush=True)
    total = sum(topic.count or 0 for topic in source.topics
                if topic.is_image and not is_truth(topic))
    with NodeProcess(parameters, out / 'node.log') as node:
        with tqdm(total=total or None, desc='playing', unit=' frames', leave=False,
                  disable=not sys.stderr.isatty()) as bar:
            try:
                result = replay(source, options, stop=node.ended, on_frame=bar.update)
            except ConfigError:
                node.check()  # why nobody listens
                raise
        node.check()
    return result


def _measure(drive: Path, epoch_ns: int | None, bag: Path, run: CameraRun,
             classes: ClassTable) -> tuple[ConfusionMatrix, BinaryIoU] | None:
    """Compare the masks with the drive's truth; None when the model has other classes."""
    truth_table = load_taxonomy(TRUTH_TAXONOMY)
    try:
        remap = remap_lut(classes, truth_table)
    except ConfigError as error:
        print(f'No comparison with the truth: {error}')
        return None
    confusion, drivable = ConfusionMatrix(truth_table), BinaryIoU()
    outputs = [run.output('mask'), run.output('drivable')]
    with open_source(drive) as source:
        [truth_topic] = [topic.name for topic in source.topics if is_truth(topic)]
        truths = matched(source, truth_topic, epoch_ns, bag, outputs)
        for truth in progress(truths, 'measuring'):
            if len(truth.outputs) == 2 and truth.image is not None:
                labels = truth.image[..., 0]  # decoded from mono8: three equal channels
                confusion.add(labels, remap[truth.outputs[outputs[0]]])
                drivable.add(truth_table.drivable_lut()[labels], truth.outputs[outputs[1]],
                             labels < len(truth_table))
    return confusion, drivable


def _draw(source: Source, run: CameraRun, epoch_ns: int | None, bag: Path, out: Path,
          painter: Painter, report: dict, times_ms: dict[int, float]) -> None:
    """Write the overlay video and the contact sheet of one camera."""
    mask, area = run.output('mask'), run.output('drivable')
    tiles: list[np.ndarray] = []
    every = max(1, report['frames_segmented'] // TILES)
    fps = max(1.0, min(60.0, report['frames_sent'] / max(report['wall_s'], 0.1)))
    frames = matched(source, run.source_topic, epoch_ns, bag, [mask, area])
    shown = 0
    with OverlayVideo(out / 'overlay.mp4', fps, painter) as video:
        for index, frame in enumerate(progress(frames, 'drawing', report['frames_sent'])):
            if frame.image is None:
                continue
            labels = painter.labels(frame.image, frame.outputs.get(mask))
            drivable = painter.drivable(frame.image, frame.outputs.get(area))
            video.add(labels, drivable, _line(report, run, index, frame, times_ms))
            if mask in frame.outputs:
                if shown % every == every // 2 and len(tiles) < TILES:
                    tiles.append(np.vstack([labels, drivable]))
                shown += 1
    import cv2
    title = (f'{report["model"]}   {report["fps"]:g} frames/s   latency p50 '
             f'{report["latency_ms"].get("p50", 0):g} ms   {report["backend"]}')
    if tiles:
        same = [tile for tile in tiles if tile.shape == tiles[0].shape]
        cv2.imwrite(str(out / 'contact_sheet.png'), contact_sheet(title, same, painter, 4))


def _line(report: dict, run: CameraRun, index: int, frame: MatchedFrame,
          times_ms: dict[int, float]) -> str:
    spent = times_ms.get(frame.stamp_ns)
    took = 'dropped' if spent is None else f'{spent:.0f} ms from stamp to receipt'
    return f'{run.name}  frame {index}  {took}   {report["model"]}'


def main(args: list[str] | None = None) -> int:
    """Run the demo from the command line."""
    parser = argparse.ArgumentParser(prog='demo', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--input', type=Path, help='video, bag or folder of images; default: the '
                        'drive that the package ships')
    parser.add_argument('--model', default='deeplabv3plus_lite0_camvid',
                        help='model name or card folder (default: %(default)s)')
    parser.add_argument('--rate', type=float, default=1.0,
                        help='seconds of the drive per second (default: %(default)s)')
    parser.add_argument('--out', type=Path, default=Path('out'),
                        help='folder for the results (default: %(default)s)')
    options = parser.parse_args(args)
    try:
        report = run_demo(options)
    except SegNodeError as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f'\n{as_table(report)}\n\nIn {options.out}: contact_sheet.png, overlay.mp4, '
          'report.json, result/ (bag), node.log')
    return 0


if __name__ == '__main__':
    sys.exit(main())
