"""
Prove the GPU path on this machine: build the engine, compare its labels, measure its latency.

The labels are compared with ONNX Runtime's on the CPU, on frames of the shipped drive. Latency
is that of whole frames, from the bytes of the message to the masks in host memory; the stages are
timed on the GPU by events, and the network's own time is what ``trtexec`` would measure.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
import json
from pathlib import Path
import platform
import sys
import time
from typing import Any

import numpy as np

from .. import __version__
from ..devices.choose import ONNX_RUNTIME, open_segmenter, TENSORRT, Wish
from ..devices.segmenter import Segmenter
from ..engines import nvcc
from ..errors import BackendError, SegNodeError
from ..frame import Demand, Frame, StageClock
from ..geometry import Size
from ..gpu import trt
from ..gpu.engine_manifest import LEAST_AGREEMENT, PRECISIONS
from ..image.wire import Header, ImageMessage
from ..model.card import load_card, ModelCard
from ..scoring.drive import Drive, resized
from . import build_engine
from .console import progress

_WARM_UP = 10
_PACKAGES = ('numpy', 'opencv-python-headless', 'onnxruntime', 'onnxruntime-gpu', 'onnx', 'pycuda',
             'tensorrt-cu13', 'tensorrt-cu12', 'tensorrt-rtx-cu13')


@dataclass(frozen=True)
class Latency:
    """
    Milliseconds of one kind of time.

    :ivar p50: half of the frames take less.
    """

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> 'Latency':
        """Return the percentiles of measured times."""
        return cls(*(round(float(value), 4) for value in np.percentile(times_ms, (50, 95, 99))))


def street(camera: Size, frames: int) -> list[Frame]:
    """Return frames of the shipped drive, spread over all of it."""
    drive = Drive()
    shown = resized(drive, range(0, len(drive), max(1, len(drive) // frames))[:frames], camera)
    return [Frame('check', ImageMessage(Header(0, 0, ''), camera.height, camera.width, 'bgr8',
                                        False, camera.width * 3, image.reshape(-1)))
            for image in shown]


def agreement(candidate: Segmenter, reference: Segmenter, frames: Sequence[Frame]) -> float:
    """
    Return the share of pixels of all frames on which two segmenters agree.

    :raises BackendError: one of them refuses a frame.
    """
    equal = total = 0
    for frame in progress(frames, 'compare'):
        masks = []
        for segmenter in (candidate, reference):
            result = segmenter.segment([frame], Demand(), StageClock())[0]
            if isinstance(result, Exception):
                raise BackendError(f'{segmenter.description} refuses a test frame: {result}')
            masks.append(result.labels)
        equal += int(np.count_nonzero(masks[0] == masks[1]))
        total += masks[0].size
    return equal / total


def latency(segmenter: Segmenter, frames: Sequence[Frame], repeats: int) -> dict[str, Latency]:
    """Return the time of whole frames as ``frame`` and that of each stage, after a warm-up."""
    times: dict[str, list[float]] = {}
    for number in progress(range(_WARM_UP + repeats), 'latency'):
        clock, frame = StageClock(), frames[number % len(frames)]
        frame.__dict__.pop('bgr', None)  # decoded anew, as from a camera
        start = time.perf_counter_ns()
        segmenter.segment([frame], Demand(), clock)
        whole = (time.perf_counter_ns() - start) / 1e6
        if number >= _WARM_UP:
            for name, ms in {'frame': whole, **clock.ms}.items():
                times.setdefault(name, []).append(ms)
    return {name: Latency.of(values) for name, values in times.items()}


def versions() -> dict[str, str]:
    """Return the versions of what is installed of all that takes part."""
    found = {'python': platform.python_version(), 'seg_node': __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        library = trt.load()
    except BackendError:
        pass
    else:  # from apt it is no package of pip
        found[library.name] = library.version
    try:
        found['nvcc'] = nvcc.release(nvcc.find_nvcc())
    except BackendError:
        pass
    gpu = trt.find_gpu()
    if gpu is not None:
        found['CUDA of the driver'] = gpu.driver
    return found


def check(card: ModelCard, candidate: Segmenter, reference: Segmenter, frames: Sequence[Frame],
          *, precision: str, repeats: int) -> dict[str, Any]:
    """Return the figures as ``--json`` writes them."""
    share = agreement(candidate, reference, frames)
    times = latency(candidate, frames, repeats)
    # Plain launches compute the same, but their latency is not what the node is made for.
    without = str(getattr(candidate, 'without_graphs', ''))
    return {
        'model': card.name, 'sha256': card.sha256, 'precision': precision,
        'machine': platform.platform(), 'candidate': candidate.description,
        'reference': reference.description, 'frames': len(frames),
        'labels_equal': share, 'least': LEAST_AGREEMENT[precision],
        'without_graphs': without, 'passed': share >= LEAST_AGREEMENT[precision] and not without,
        'versions': versions(), 'batch': 1,
        'repeats': repeats, 'latency_ms': {name: vars(value) for name, value in times.items()},
        'frame_to_network': round(times['frame'].p50 / times['network'].p50, 3)}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """
    Build the engine where it is not there yet, and check it.

    :raises SegNodeError: there is no GPU, or a step fails.
    """
    card = load_card(options.model)
    words = ['--model', options.model, '--precision', options.precision, '--camera',
             str(options.camera), '--batch', '1', '--gpu', str(options.gpu)]
    words += ['--images', str(options.images)] if options.images else []
    if build_engine.main(words):
        raise BackendError('the engine could not be built; the reason stands above')
    reference = open_segmenter(card, Wish(ONNX_RUNTIME)).segmenter
    candidate = open_segmenter(card, Wish(TENSORRT, gpu=options.gpu, cameras=(options.camera,),
                                          precision=options.precision)).segmenter
    try:
        return check(card, candidate, reference, street(options.camera, options.frames),
                     precision=options.precision, repeats=options.repeats)
    finally:
        candidate.close()
        reference.close()


def main(args: list[str] | None = None) -> int:
    """Run from the command line; 1 when it does not pass, 2 when it cannot run."""
    options = _parser().parse_args(args)
    try:
        report = run(options)
    except SegNodeError as error:
        print(f'gpu_check: {error}', file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    _print(report)
    return 0 if report['passed'] else 1


def _print(report: dict[str, Any]) -> None:
    print(f'{report["model"]} {report["precision"]}: {report["candidate"]}\n'
          f'  labels equal to {report["reference"]}: {report["labels_equal"]:.4%} on '
          f'{report["frames"]} frames, at least {report["least"]:.2%}: '
          f'{"passed" if report["labels_equal"] >= report["least"] else "FAILED"}')
    if report['without_graphs']:
        print(f'  FAILED: the times are without CUDA graphs: {report["without_graphs"]}')
    for name, times in report['latency_ms'].items():
        print(f'  {name:12} p50 {times["p50"]:8.3f}   p95 {times["p95"]:8.3f}   '
              f'p99 {times["p99"]:8.3f} ms')
    print(f'  frame / network: {report["frame_to_network"]}')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='gpu_check', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--model', default='deeplabv3plus_lite0_camvid', help='model name or card folder')
    add('--precision', choices=PRECISIONS, default='fp16', help='default: %(default)s')
    add('--camera', type=build_engine.camera_size, default=Size(720, 1280),
        metavar='WIDTHxHEIGHT', help='default: %(default)s')
    add('--frames', type=int, default=20, help='to compare (default: %(default)s)')
    add('--repeats', type=int, default=500, help='to time (default: %(default)s)')
    add('--images', type=Path, help='int8: folder of images to calibrate with')
    add('--gpu', type=int, default=0, choices=range(64), metavar='NUMBER',
        help='builds and runs on this GPU, as nvidia-smi counts (default: %(default)s)')
    add('--json', type=Path, help='write the report here')
    return parser


if __name__ == '__main__':
    sys.exit(main())
