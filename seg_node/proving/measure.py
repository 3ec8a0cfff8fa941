"""What is measured of a GPU: exactness, latency, the bare network, and what is not given back."""

from collections.abc import Callable, Iterable, Sequence
import ctypes
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
import time
from typing import Any

import numpy as np

from ..devices.segmenter import Result, Running, Segmenter, starter
from ..errors import BackendError
from ..frame import Demand, Frame, Segmentation, StageClock
from ..geometry import fit, Size
from ..gpu.driver import Gpu
from ..gpu.engine import Engine
from ..gpu.engine_cache import VerifiedEngine
from ..gpu.forms import in_memory
from ..gpu.graph import CudaError, Driver
from ..gpu.launch import input_bytes
from ..model.card import ModelCard

WARM_UP = 10
LoadEngine = Callable[[VerifiedEngine, Gpu], Engine]


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


@dataclass
class Exactness:
    """
    How far the masks of two segmenters are the same.

    :ivar labels: pixels whose label differs; ``drivable`` likewise.
    :ivar confidence: the largest difference, of 255.
    """

    frames: int = 0
    pixels: int = 0
    labels: int = 0
    drivable: int = 0
    confidence: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing differs but the last digit of the confidence."""
        return self.frames > 0 and not self.labels and not self.drivable and self.confidence <= 1

    def add(self, one: Segmentation, truth: Segmentation) -> None:
        """Count where the masks of one frame differ."""
        self.frames += 1
        self.pixels += truth.labels.size
        self.labels += int(np.count_nonzero(one.labels != truth.labels))
        if one.drivable is not None and truth.drivable is not None:
            self.drivable += int(np.count_nonzero(one.drivable != truth.drivable))
        if one.confidence is not None and truth.confidence is not None:
            off = np.abs(one.confidence.astype(np.int16) - truth.confidence)
            self.confidence = max(self.confidence, int(off.max()))

    def entry(self) -> dict[str, Any]:
        """Return it as the report has it."""
        return {**asdict(self), 'equal': 1 - self.labels / self.pixels if self.pixels else 0.0}


def exactness(candidate: Segmenter, reference: Segmenter,
              batches: Iterable[Sequence[Frame]]) -> Exactness:
    """
    Compare the masks of two segmenters, two batches in flight where the candidate can have two.

    :raises BackendError: one of them refuses a frame.
    """
    begin, found = starter(candidate), Exactness()
    running: Running | None = None
    last: Sequence[Frame] = ()
    for batch in (*batches, None):
        # As the node does it: the next are begun before the last are fetched.
        following = None if batch is None else begin(batch, Demand(), StageClock())
        if running is not None:
            truths = _masks(reference, reference.segment(last, Demand(), StageClock()))
            for one, truth in zip(_masks(candidate, running.results()), truths, strict=True):
                found.add(one, truth)
        running, last = following, batch or ()
    return found


def _masks(segmenter: Segmenter, results: Sequence[Result]) -> list[Segmentation]:
    masks = []
    for result in results:
        if isinstance(result, Exception):
            raise BackendError(f'{segmenter.description} refuses a test frame: {result}')
        masks.append(result)
    return masks


def latency(segmenter: Segmenter, frames: Sequence[Frame], repeats: Iterable[int]
            ) -> dict[str, Latency]:
    """
    Return the time of whole frames as ``frame`` and that of each stage.

    :param repeats: numbers from 0; the first ``WARM_UP`` are not counted.
    """
    times: dict[str, list[float]] = {}
    for number in repeats:
        clock, frame = StageClock(), frames[number % len(frames)]
        frame.__dict__.pop('bgr', None)  # decoded anew, as from a camera
        start = time.perf_counter_ns()
        segmenter.segment([frame], Demand(), clock)
        whole = (time.perf_counter_ns() - start) / 1e6
        if number >= WARM_UP:
            for name, ms in {'frame': whole, **clock.ms}.items():
                times.setdefault(name, []).append(ms)
    return {name: Latency.of(values) for name, values in times.items()}


def interval(segmenter: Segmenter, frames: Sequence[Frame], repeats: Iterable[int]) -> float:
    """
    Return the milliseconds from frame to frame where the next is begun before the last is fetched.

    The segmenter has seen such frames before.

    :param repeats: numbers from 0.
    """
    begin, running = starter(segmenter), None
    number, start = 0, time.perf_counter_ns()
    for number in repeats:
        following = begin([frames[number % len(frames)]], Demand(), StageClock())
        if running is not None:
            running.results()
        running = following
    if running is not None:
        running.results()
    return (time.perf_counter_ns() - start) / 1e6 / (number + 1)


def bare_network(number: int, verified: VerifiedEngine, load_engine: LoadEngine, model: ModelCard,
                 camera: Size, repeats: int) -> tuple[Latency, str]:
    """
    Return what the network alone takes for one image, run back to back.

    The GPU never idles between two runs, so its clocks are those of work: what a frame takes is
    to be divided by this, not by the network's time among frames that come one by one.

    :param repeats: runs that are timed, by an event between each two.
    :returns: the times, and why they are those of plain launches, '' for a graph's.
    :raises BackendError: the GPU or the engine fails.
    """
    gpu = Gpu(number)
    try:
        with gpu.active():
            engine = load_engine(verified, gpu)
            try:
                return _bare(gpu, engine, model, camera, repeats)
            finally:
                engine.close()
    finally:
        gpu.close()


def _bare(gpu: Gpu, engine: Engine, model: ModelCard, camera: Size,
          repeats: int) -> tuple[Latency, str]:
    [tensor] = engine.inputs
    network = fit(model.input, camera).network
    execution = engine.execution(tensor.name, (1, 3, *network) if model.input.layout == 'NCHW'
                                 else (1, *network, 3))
    sizes = {tensor.name: input_bytes(model.input, network, engine.forms[tensor.name])}
    for output in engine.outputs:
        sides = dict(zip(model.main_output.layout, execution.output_shape(output.name),
                         strict=True))
        form = in_memory(model.main_output.layout, engine.forms[output.name])
        sizes[output.name] = np.dtype(output.dtype).itemsize * form.elements(
            sides['C'], Size(sides['H'], sides['W']))
    stream = gpu.stream()
    for name, size in sizes.items():
        memory = gpu.allocate(size, f'tensor {name}')
        gpu.clear(stream, memory.address, size)
        execution.set_address(name, memory.address)

    def enqueue() -> None:
        if not execution.enqueue(stream.handle):
            raise BackendError(f'{engine.description} cannot run: {engine.reasons()}')
    marks = [gpu.event() for _ in range(repeats + 1)]
    for _ in range(WARM_UP):
        enqueue()
    gpu.record(stream, marks[0])
    gpu.wait(marks[0])
    graph, reason = None, ''
    try:
        graph = gpu.capture(stream, enqueue)
    except (CudaError, BackendError) as error:
        reason = str(error)
    for mark in marks:
        gpu.record(stream, mark)
        if mark is not marks[-1]:
            gpu.launch(graph) if graph is not None else enqueue()
    gpu.wait(marks[-1])
    times = [end.ms_since(begin) for begin, end in pairwise(marks)]
    if graph is not None:
        graph.close()
    execution.close()
    return Latency.of(times), reason


def leaks(number: int, use: Callable[[], None], rounds: int = 6) -> dict[str, Any]:
    """
    Return what is left of the GPU's and this process's memory after each use from start to end.

    The first use warms caches up. What leaks falls (or grows) every time.

    :param use: makes a segmenter, runs it and closes it.
    """
    free, resident = [], []
    for _ in range(rounds):
        use()
        free.append(free_memory(number))
        pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
        resident.append(round(pages * 4096 / 2 ** 20, 1))
    device = all(after < before for before, after in pairwise(free[1:]))
    host = (all(after > before for before, after in pairwise(resident[1:]))
            and resident[-1] - resident[1] > 1)
    return {'free_device_bytes': free, 'resident_mib': resident, 'device': device, 'host': host}


def free_memory(number: int) -> int:
    """Return how many bytes of the GPU's memory are free."""
    gpu = Gpu(number)
    try:
        with gpu.active():
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            Driver().call('cuMemGetInfo_v2', ctypes.byref(free), ctypes.byref(total))
            return free.value
    finally:
        gpu.close()
