"""
What one frame costs, beside the bare network and three other ways, in one interleaved run.

All of them do the same work (mask, confidence, drivable) by the same network in one process, which
keeps its buffers as the node does. Core time (the CPU time of all threads of the process) stands
beside wall time: on a shared machine only the former and ratios of pairs mean something.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
import sys
import time

import cv2
import numpy as np

from .. import reference
from ..devices import backend as backends, openvino
from ..devices.host import HostSegmenter
from ..errors import SegNodeError
from ..frame import Frame, Products, StageClock
from ..geometry import fit, Geometry, Size
from ..image import wire
from ..model.card import load_card, ModelCard
from ..pipeline import Pipeline
from ..preprocess import Preprocessor
from ..ros.transport import keep_buffers
from ..scoring.drive import Drive, resized
from ..scoring.picture_file import read_picture
from .baselines import Baseline, BASELINES
from .console import progress
from .machine import keep_figures, kept_figures

WANTED = ('mask', 'confidence', 'drivable')


class TimedBackend:
    """
    A backend that knows how long its last run took.

    What a frame costs beside the network is the frame's time less this one's of the same frame:
    the difference of two runs would drown in the network's own spread.
    """

    def __init__(self, backend: backends.Backend) -> None:
        self._backend = backend
        self.description, self.device = backend.description, backend.device
        self.max_batch = backend.max_batch
        self.last_ms = (0.0, 0.0)

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Get ready, outside of the time that is noted."""
        self._backend.prepare(shape)

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """Run the network and note its core and wall milliseconds."""
        timer = Timer()
        outputs = self._backend.run(tensor)
        self.last_ms = timer.ms()
        return outputs

    def close(self) -> None:
        """Free the network."""
        self._backend.close()


class Timer:
    """Core time of all threads and wall time, since it was made."""

    def __init__(self) -> None:
        self._core, self._wall = time.process_time_ns(), time.perf_counter_ns()

    def ms(self) -> tuple[float, float]:
        """Return (core, wall) milliseconds so far."""
        return ((time.process_time_ns() - self._core) / 1e6,
                (time.perf_counter_ns() - self._wall) / 1e6)


def measure(card: ModelCard, image: np.ndarray, *, n: int, threads: int,
            backend_name: str = backends.ONNX_RUNTIME, precision: str = 'fp32') -> dict:
    """
    Time network, whole frame and the baselines in turn, n times each.

    :param image: (height, width, 3) uint8 BGR.
    :returns: the report as ``--json`` writes it.
    """
    backend = TimedBackend(backends.load(backend_name, card, threads=threads,
                                         precision=precision))
    main = card.main_output
    pipeline = Pipeline(HostSegmenter(card, backend), main.classes)
    size = Size(*image.shape[:2])
    geometry = fit(card.input, size)
    tensor = Preprocessor(card.input).tensor([image], [geometry]).copy()
    cdr = wire.build_image(wire.Header(1, 2, 'camera'), size.height, size.width, 'bgr8', image)
    stages: list[dict[str, float]] = []
    subjects: dict[str, Callable[[], object]] = {
        'network': lambda: backend.run(tensor),
        'frame': lambda: stages.append(_frame(pipeline, cdr)),
    }
    others: dict[str, np.ndarray] = {}
    if main.kind == 'logits' and main.layout == card.input.layout == 'NCHW':
        for name, make in BASELINES.items():
            others[name] = _add(subjects, name, make(card, backend), image, geometry)
    times = _interleave(subjects, backend, n)
    report = _figures(times, stages[-n:])
    report['labels_equal'] = {name: round(float((mask == _mask(pipeline, cdr)).mean()), 5)
                              for name, mask in others.items()}
    report.update(n=n, model=card.name, backend=backend.description, image=str(size),
                  network_input=str(geometry.network),
                  labels_equal_reference=_agreement(card, backend, pipeline, cdr, tensor))
    return report


def _add(subjects: dict[str, Callable[[], object]], name: str, baseline: Baseline,
         image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Add a baseline to what is timed; return its labels, which tell that it does the same."""
    subjects[name] = lambda: baseline(image, geometry)
    return baseline(image, geometry)[0]


def _mask(pipeline: Pipeline, cdr: bytes) -> np.ndarray:
    return _process(pipeline, cdr, StageClock()).images['mask']


def _frame(pipeline: Pipeline, cdr: bytes) -> dict[str, float]:
    """Do all that the node does for one message, up to the bytes it hands to the middleware."""
    clock = StageClock()
    products = _process(pipeline, cdr, clock)
    with clock.stage('messages'):
        for image in products.images.values():
            if image is not None:
                height, width = image.shape
                wire.build_image(products.frame.header, height, width, 'mono8', image)
    return clock.ms


def _process(pipeline: Pipeline, cdr: bytes, clock: StageClock) -> Products:
    with clock.stage('messages'):
        frame = Frame('camera', wire.parse_image(cdr))
    result = pipeline.process([frame], [WANTED], clock)[0]
    if not isinstance(result, Products):
        raise result
    return result


def _interleave(subjects: dict[str, Callable[[], object]], backend: TimedBackend,
                n: int) -> dict[str, np.ndarray]:
    """
    Return (n, 2) core and wall milliseconds for each subject, run in turn A B C A B C ….

    ``<subject>_glue`` is what it took beside the network, which each runs once.
    """
    for run in subjects.values():
        run()
        run()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    for _ in progress(range(n), 'benchmark'):
        for name, run in subjects.items():
            timer = Timer()
            run()
            core, wall = timer.ms()
            times[name].append((core, wall))
            times.setdefault(f'{name}_glue', []).append((core - backend.last_ms[0],
                                                         wall - backend.last_ms[1]))
    return {name: np.array(rows) for name, rows in times.items()}


def _figures(times: dict[str, np.ndarray], stages: list[dict[str, float]]) -> dict:
    """Return medians and, under ``spread``, 10th and 90th percentiles."""
    named = {'frame_glue': 'glue'}
    pairs = {f'{named.get(name, name)}_{kind}_ms': series[:, column]
             for name, series in times.items() if name != 'network_glue'
             for column, kind in enumerate(('core', 'wall'))}
    pairs['frame_to_network_core'] = pairs['frame_core_ms'] / pairs['network_core_ms']
    report: dict = {key: round(float(np.median(series)), 3) for key, series in pairs.items()}
    report['stages_ms'] = {name: round(float(np.median([row[name] for row in stages])), 3)
                           for name in stages[0]}
    report['spread'] = {key: [round(float(p), 3) for p in np.percentile(series, (10, 90))]
                        for key, series in pairs.items()}
    return report


def _agreement(card: ModelCard, backend: backends.Backend, pipeline: Pipeline, cdr: bytes,
               tensor: np.ndarray) -> float | None:
    """Return the share of pixels whose label equals the plain reference, None if none fits."""
    main = card.main_output
    if main.kind not in ('logits', 'probabilities') or main.layout != 'NCHW':
        return None
    products = _process(pipeline, cdr, StageClock())
    scores = backend.run(tensor)[card.outputs.index(main)][0]
    rows = products.geometry.rows(scores.shape[1], main.align_corners)
    columns = products.geometry.columns(scores.shape[2], main.align_corners)
    return float((products.images['mask'] == reference.labels(scores, rows, columns)).mean())


def main(args: list[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog='benchmark', description=__doc__)
    parser.add_argument('--model', default='deeplabv3plus_lite0_camvid',
                        help='model name or card folder (default: %(default)s)')
    parser.add_argument('--image', type=Path, help='an image file; default: a frame of the '
                        'shipped drive')
    parser.add_argument('--width', type=int, default=1280, help='camera width, pixels')
    parser.add_argument('--height', type=int, default=720, help='camera height, pixels')
    parser.add_argument('-n', type=int, default=30, help='runs of each (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=0, help='of the network; 0 = all cores')
    parser.add_argument('--backend', choices=backends.NAMES, nargs='+',
                        default=[backends.ONNX_RUNTIME],
                        help='what runs the network, one after the other (default: onnxruntime)')
    parser.add_argument('--precision', nargs='+', default=['auto'], help='of OpenVINO: auto, '
                        f'{", ".join(openvino.PRECISIONS)} (default: auto)')
    parser.add_argument('--json', type=Path, help='put the figures into this file of a machine, '
                        'beside those of the node over DDS (scripts/node_figures.py)')
    options = parser.parse_args(args)
    cv2.setNumThreads(1)
    keep_buffers()
    reports = []
    try:
        if options.json:
            kept_figures(options.json)  # refuses before the work what would fail after it
        card = load_card(options.model)
        for backend, precision in _ways(options, card):
            report = measure(card, _image(options), n=options.n,
                             threads=options.threads, backend_name=backend, precision=precision)
            _print(report)
            reports.append(report)
        if options.json:
            keep_figures(options.json, in_process=reports)
    except (SegNodeError, OSError) as error:
        print(f'benchmark: {error}', file=sys.stderr)
        return 2
    return 0


def _ways(options: argparse.Namespace, card: ModelCard) -> Iterator[tuple[str, str]]:
    """Yield each backend with each of the precisions it is to compute in."""
    for backend in options.backend:
        if backend != backends.OPENVINO:
            yield backend, 'fp32'
            continue
        for precision in options.precision:
            yield backend, openvino.best_precisions(precision, card)[0]


def _image(options: argparse.Namespace) -> np.ndarray:
    size = (options.width, options.height)
    if options.image is None:
        drive = Drive()
        middle = len(drive) // 2
        return resized(drive, range(middle, middle + 1), Size(options.height, options.width))[0]
    return cv2.resize(read_picture(options.image), size)


def _baseline_rows() -> list[tuple[str, str]]:
    return [row for name, kind in BASELINES.items()
            for row in ((name, kind.about), (f'{name}_glue', '  of it beside the network'))]


def _print(report: dict) -> None:
    print(f'{report["model"]} on {report["backend"]}\n{report["image"]} image, '
          f'{report["network_input"]} network, n = {report["n"]}; medians in ms '
          '(10 % .. 90 %)')
    for name, meaning in (('network', 'bare network'), ('frame', 'whole frame'),
                          ('glue', 'frame but network'), *_baseline_rows()):
        if f'{name}_core_ms' in report:
            cells = []
            for kind in ('core', 'wall'):
                low, high = report['spread'][f'{name}_{kind}_ms']
                cells.append(f'{kind} {report[f"{name}_{kind}_ms"]:8.2f} ({low:.2f} .. '
                             f'{high:.2f})')
            print(f'  {meaning:42} {"   ".join(cells)}')
    print('  stages (wall): ' + ', '.join(f'{name} {ms:.2f}'
                                         for name, ms in report['stages_ms'].items()))
    print(f'  frame / network (core): {report["frame_to_network_core"]:.3f}')
    for name, equal in report['labels_equal'].items():
        ratio = report[f'{name}_glue_core_ms'] / report['glue_core_ms']
        print(f'  beside the network {name} takes {ratio:.1f} times as long (core); '
              f'{equal:.2%} of its labels are the same')
    if report['labels_equal_reference'] is not None:
        print(f'  labels equal to the reference: {report["labels_equal_reference"]:.4%}')


if __name__ == '__main__':
    sys.exit(main())
