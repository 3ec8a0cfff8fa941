"""The segmenter for NVIDIA GPUs: images go up once, labels come down once."""

import atexit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from weakref import WeakSet

import numpy as np

from ..devices.heads import check_probabilities
from ..devices.segmenter import Result
from ..errors import BackendError, ConfigError, DeviceLostError, FrameError
from ..frame import Demand, Frame, Segmentation, StageClock
from ..geometry import camera_for, fit, fit_frame, Geometry, Size
from ..mishaps import mishaps
from ..model.card import ModelCard
from ..model.policy import DrivablePolicy
from .batches import Batches
from .driver import Gpu
from .engine import Engine, TrtEngine
from .engine_cache import VerifiedEngine
from .launch import ResultBlock
from .runner import Batch, Flight, Image, Launched, Runner
from .slots import Slots
from .suits import check_heads, checked_input
from .upload import read

# A camera size to try a model with, if the engine takes it.
_SAMPLE = Size(360, 640)

# What is not closed yet; see ``_close_all``.
_live: WeakSet['TensorRTSegmenter'] = WeakSet()


class EngineSizeError(FrameError):
    """A frame needs the network at a size that the engine was not built for."""

    def __init__(self, network: Size, message: str) -> None:
        super().__init__('engine-size', message)
        self.network = network


class GpuRunning:
    """
    A call in flight; see ``Running``.

    :param collect: waits for it and fills in the rest of ``found``; None: nothing is on the GPU.
    :ivar found: results so far: of the frames that were refused before they reached the GPU.
    """

    def __init__(self, found: list[Result | None], due: float,
                 collect: Callable[[], None] | None) -> None:
        self.found = found
        self._collect = collect
        self.due = due

    def results(self) -> list[Result]:
        """Wait for the results; see ``Running.results``."""
        collect, self._collect = self._collect, None
        if collect is not None:
            collect()
        return [result for result in self.found if result is not None]


class TensorRTSegmenter:
    """
    Preprocesses, runs a TensorRT engine and labels on the GPU; see ``Overlapping``.

    Two calls may be in flight, and their results are to be fetched in the order of the calls. The
    labels, confidences and drivable areas are views of page-locked memory, one buffer for each of
    the two: valid until the next but one call. One thread makes, uses and closes it, or takes it
    over first.

    After a BackendError it is of no use any more; ``close`` it.

    :param card: what the engine was built from.
    :param verified: of ``engine_cache.open_verified``.
    :param gpu: number of the GPU, as nvidia-smi counts them.
    :param policy: what is drivable; None = as the card says.
    :param load_engine: makes the engine; TensorRT unless told otherwise.
    :raises ConfigError: a model that the kernels cannot serve, or an engine without kernels.
    :raises BackendError: the GPU or TensorRT cannot be used.
    """

    def __init__(self, card: ModelCard, verified: VerifiedEngine, gpu: int = 0, *,
                 policy: DrivablePolicy | None = None,
                 load_engine: Callable[[VerifiedEngine, Gpu], Engine] = TrtEngine) -> None:
        check_heads(card)
        if verified.cubin is None:
            raise ConfigError(f'{verified.folder} holds no kernels.cubin: the engine was built '
                              'where nvcc is not installed. Install the CUDA toolkit and build '
                              'it again with --force.')
        self._card = card
        self._broken = ''
        self._what = ''
        self._engine: Engine | None = None
        self._planner: Batches | None = None
        self._runner: Runner | None = None
        self._gpu = Gpu(gpu)
        _live.add(self)
        try:
            with self._gpu.active():
                self._load(verified, verified.cubin, load_engine,
                           policy or DrivablePolicy(card))
        except BaseException:
            self.close()
            raise
        self.device = f'cuda:{gpu} {self._gpu.name}'

    def segment(self, frames: Sequence[Frame], demand: Demand, clock: StageClock) -> list[Result]:
        """Segment the frames in batches of one network size; see ``Segmenter.segment``."""
        return self.start(frames, demand, clock).results()

    def start(self, frames: Sequence[Frame], demand: Demand, clock: StageClock) -> GpuRunning:
        """Begin to segment the frames; see ``Overlapping.start``."""
        self._refuse_if_broken()
        self._gpu.check_thread()
        found: list[Result | None] = [None] * len(frames)
        images = []
        for index, frame in enumerate(frames):
            try:
                with clock.stage('decode'), mishaps('decoding'):
                    images.append(self._image(index, frame, demand.output))
            except FrameError as error:
                found[index] = error.with_traceback(None)  # it holds this very list
        if not images:
            return GpuRunning(found, 0.0, None)
        with self._guarded():
            assert self._runner is not None
            # The kernel makes a glimpse and the entropy of what the whole confidence needs.
            sure = demand.confidence or demand.entropy or demand.glimpse is not None
            flight = self._runner.launch(
                self._batches(images, replace(demand, confidence=sure)), clock)
        return GpuRunning(found, flight.due, lambda: self._collect(flight, found, clock))

    @property
    def warm_runs(self) -> int:
        """How often a kind of batch must run; see ``Overlapping``."""
        return 1 if self._runner is None else self._runner.warm_runs

    @property
    def without_graphs(self) -> str:
        """Why it goes on without CUDA graphs, '' while it does not."""
        return '' if self._runner is None else self._runner.without_graphs

    @property
    def description(self) -> str:
        """What really runs, and how."""
        return self._what + ('' if self._runner is None else f', {self._runner.description}')

    def retune(self, policy: DrivablePolicy) -> None:
        """Take another policy; see ``Segmenter.retune``."""
        if self._planner is not None:
            with self._gpu.active():
                self._planner.retune(policy.lut)

    def take_over(self) -> None:
        """Make the calling thread the one that uses this; the one before must have ended."""
        self._gpu.take_over()

    def close(self) -> None:
        """Free the GPU; never raises."""
        self._broken = self._broken or 'it was closed'
        self._gpu.take_over()
        for _ in range(2):
            try:
                with self._gpu.active():
                    self._free()
            except BackendError:  # closed before, or the driver does not give the context
                continue
            break
        self._runner = self._planner = self._engine = None
        self._gpu.close()
        _live.discard(self)

    def _free(self) -> None:
        if self._planner is not None:
            try:
                self._gpu.drain()
            except BackendError:  # a lost device does nothing any more
                pass
            self._slots.give_up()
            self._planner.clear()
            self._planner = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _load(self, verified: VerifiedEngine, cubin: bytes,
              load_engine: Callable[[VerifiedEngine, Gpu], Engine],
              policy: DrivablePolicy) -> None:
        self._engine = engine = load_engine(verified, self._gpu)
        self._spec = checked_input(self._card, engine)
        low, best, high = engine.profile(self._spec.name)
        rows, columns = (self._spec.layout.index(axis) for axis in 'HW')
        self._sizes = (Size(low[rows], low[columns]), Size(high[rows], high[columns]))
        self.preferred_batch = high[0]
        self.sample = _SAMPLE
        if not self._takes(fit(self._spec, _SAMPLE).network):
            self.sample = camera_for(self._spec, Size(best[rows], best[columns]))
        if low[0] > 1:
            raise ConfigError(f'{engine.description} takes at least {low[0]} images at a time; '
                              'cameras may deliver one. Build it with --batch 1:N')
        kernels, self._slots = self._gpu.load(cubin, verified.toolkit), Slots(self._gpu)
        self._planner = Batches(self._gpu, engine, self._spec, self._card.main_output,
                                self.preferred_batch, policy.lut, self._slots.wait)
        self._runner = Runner(self._gpu, engine, kernels, self._planner, self._slots)
        self._what = f'{engine.description} on {self._gpu.name}, CUDA {self._gpu.driver}'

    def _image(self, index: int, frame: Frame, output: Size | None) -> Image:
        source, pixels = read(frame)
        geometry = fit_frame(self._spec, Size(source.height, source.width), output,
                             frame.rectification)
        if not self._takes(geometry.network):
            low, high = self._sizes
            raise EngineSizeError(geometry.network, f'a {geometry.camera} image needs the network '
                                  f'at {geometry.network}, the engine takes {low} to {high}: '
                                  f'build one with --camera {geometry.camera} added')
        return Image(index, source, pixels, geometry)

    def _takes(self, network: Size) -> bool:
        low, high = self._sizes
        return (low.height <= network.height <= high.height
                and low.width <= network.width <= high.width)

    def _refuse_if_broken(self) -> None:
        if self._broken:
            raise DeviceLostError(f'the GPU segmenter is of no use any more: {self._broken}')

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Do something on the GPU; remember what went wrong."""
        try:
            with self._gpu.active():
                yield
                return
        except BackendError as error:
            # Its traceback would hold GPU memory beyond ``close``: since Python 3.13 it is part of
            # a circle, by way of this generator's frame.
            self._broken = str(error.with_traceback(None))
        except BaseException as error:
            self._broken = f'{type(error).__name__}: {error}'
            raise
        raise DeviceLostError(self._broken)

    def _collect(self, flight: Flight, found: list[Result | None], clock: StageClock) -> None:
        """Wait until a call is done and fill in its results."""
        self._refuse_if_broken()
        self._gpu.check_thread()
        with self._guarded():
            assert self._runner is not None
            self._runner.wait(flight, clock)
            for batch, error in flight.refused:
                for image in batch.images:
                    found[image.index] = error
            for one in flight.launched:
                for place, image in enumerate(one.batch.images):
                    found[image.index] = self._read(one, place, image.geometry)

    def _batches(self, images: list[Image], demand: Demand) -> list[Batch]:
        """Group by network size, in an order that makes equal sets of cameras equal batches."""
        groups: dict[Size, list[Image]] = {}
        for image in images:
            groups.setdefault(image.geometry.network, []).append(image)
        step, batches = self.preferred_batch, []
        for group in groups.values():
            group.sort(key=lambda image: (image.source.encoding, image.source.height,
                                          image.source.width, image.source.step))
            for start in range(0, len(group), step):
                part = group[start:start + step]
                batches.append(Batch(part, ResultBlock(
                    tuple(image.geometry.output for image in part), demand.confidence,
                    products=int(demand.drivable), entropy=demand.entropy)))
        return batches

    def _read(self, one: Launched, place: int, geometry: Geometry) -> Result:
        """Read one frame's part of a result."""
        parts, spec = one.batch.layout.parts(one.block, place), self._card.main_output
        if not parts.range.finite:
            return FrameError('logits', 'the network returned NaN or infinite scores for this '
                              'frame: a broken model file, or fp16 overflow; nothing is '
                              'published for it')
        try:
            if spec.kind == 'probabilities':
                check_probabilities(spec, np.array([parts.range.low, parts.range.high]) + 0.0)
        except FrameError as error:
            return error
        return Segmentation(geometry, parts.labels, parts.confidence,
                            parts.products[0] if parts.products else None,
                            entropy=parts.entropy)


@atexit.register
def _close_all() -> None:
    """Close what a process leaves open: TensorRT must free its engines before the context goes."""
    for segmenter in list(_live):
        segmenter.close()
