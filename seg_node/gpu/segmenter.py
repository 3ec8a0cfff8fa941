"""The segmenter for NVIDIA GPUs: images go up once, labels come down once."""

import atexit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from .batches import alone, Batches, Job, PreparedBatch
from .captures import Captures
from .driver import Gpu, Pinned
from .engine import Engine, TrtEngine
from .engine_cache import VerifiedEngine
from .launch import aligned, ResultBlock, UploadImage
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


@dataclass(frozen=True)
class _Image:
    """A frame on its way: its place in the call, and what is uploaded of it."""

    index: int
    source: UploadImage
    pixels: np.ndarray
    geometry: Geometry


class TensorRTSegmenter:
    """
    Preprocesses, runs a TensorRT engine and labels on the GPU; see ``Segmenter``.

    The labels, confidences and drivable areas it returns are views of two page-locked buffers
    used in turn: valid until the next but one call of ``segment``. One thread makes, uses and
    closes it, or takes it over first.

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
        self._captures = Captures()
        self._buffers: list[Pinned] = []
        self._slot = 0
        self._engine: Engine | None = None
        self._planner: Batches | None = None
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
        if self._broken:
            raise DeviceLostError(f'the GPU segmenter is of no use any more: {self._broken}')
        self._gpu.check_thread()
        results: list[Result | None] = [None] * len(frames)
        images = []
        for index, frame in enumerate(frames):
            try:
                with clock.stage('decode'), mishaps('decoding'):
                    images.append(self._image(index, frame, demand.output))
            except FrameError as error:
                results[index] = error.with_traceback(None)  # it holds this very list
        if images:
            sure = demand.confidence or demand.glimpse is not None
            for image, result in self._guarded(images, replace(demand, confidence=sure), clock):
                results[image.index] = result
        return [result for result in results if result is not None]

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
        self._planner = self._engine = None
        self._buffers.clear()
        self._gpu.close()
        _live.discard(self)

    def _free(self) -> None:
        if self._planner is not None:
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
        self._kernels = self._gpu.load(cubin, verified.toolkit)
        self._marks = [self._gpu.event() for _ in range(4)]
        output = self._card.main_output
        self._planner = Batches(self._gpu, engine, self._spec, output, self.preferred_batch,
                                policy.lut)
        self._describe()

    def _describe(self) -> None:
        assert self._engine is not None
        memory = 'shared memory' if self._gpu.integrated else 'page-locked copies'
        graphs = (f'plain launches, as CUDA graphs failed ({self.without_graphs})'
                  if self.without_graphs else 'CUDA graphs')
        self.description = (f'{self._engine.description} on {self._gpu.name}, CUDA '
                            f'{self._gpu.driver}, {memory}, {graphs}')

    def _image(self, index: int, frame: Frame, output: Size | None) -> _Image:
        source, pixels = read(frame)
        geometry = fit_frame(self._spec, Size(source.height, source.width), output,
                             frame.rectification)
        if not self._takes(geometry.network):
            low, high = self._sizes
            raise EngineSizeError(geometry.network, f'a {geometry.camera} image needs the network '
                                  f'at {geometry.network}, the engine takes {low} to {high}: '
                                  f'build one with --camera {geometry.camera} added')
        return _Image(index, source, pixels, geometry)

    def _takes(self, network: Size) -> bool:
        low, high = self._sizes
        return (low.height <= network.height <= high.height
                and low.width <= network.width <= high.width)

    def _guarded(self, images: list[_Image], demand: Demand,
                 clock: StageClock) -> list[tuple[_Image, Result]]:
        """Run all batches; remember what went wrong."""
        try:
            with self._gpu.active():
                return self._run_all(images, demand, clock)
        except BackendError as error:
            self._broken = str(error)
        except BaseException as error:
            self._broken = f'{type(error).__name__}: {error}'
            raise
        # Not the error itself: its traceback would hold GPU memory beyond ``close``.
        raise DeviceLostError(self._broken)

    def _run_all(self, images: list[_Image], demand: Demand,
                 clock: StageClock) -> list[tuple[_Image, Result]]:
        """Run all batches of one call; the next slot holds their results."""
        batches = [(batch, ResultBlock(tuple(image.geometry.output for image in batch),
                                        demand.confidence, products=1,
                                        entropy=demand.entropy))
                   for batch in self._batches(images)]
        self._make_room(batches)
        self._slot ^= 1
        start = 0
        done: list[tuple[_Image, Result]] = []
        for batch, layout in batches:
            results = self._run(batch, layout, start, clock)
            done += zip(batch, results, strict=True)
            start += aligned(layout.size_bytes)
        return done

    def _batches(self, images: list[_Image]) -> list[list[_Image]]:
        """Group by network size, in an order that makes equal sets of cameras equal batches."""
        groups: dict[Size, list[_Image]] = {}
        for image in images:
            groups.setdefault(image.geometry.network, []).append(image)
        step, batches = self.preferred_batch, []
        for group in groups.values():
            group.sort(key=lambda image: (image.source.encoding, image.source.height,
                                          image.source.width, image.source.step))
            batches += [group[start:start + step] for start in range(0, len(group), step)]
        return batches

    def _make_room(self, batches: list[tuple[list[_Image], ResultBlock]]) -> None:
        """Make the page-locked buffers large enough: one for images, two for results."""
        assert self._planner is not None
        images = [image for batch, _ in batches for image in batch]
        parts = [aligned(image.source.size_bytes) for image in images]
        up = max(max(parts) * self.preferred_batch,
                 *(sum(aligned(image.source.size_bytes) for image in batch)
                   for batch, _ in batches))
        layout = batches[0][1]
        down = max(sum(aligned(layout.size_bytes) for _, layout in batches),
                   self._planner.reserve([alone(layout, image.geometry.output).size_bytes
                                          for image in images]))
        sizes = [up, down, down]
        if self._buffers:
            have = [buffer.array.size for buffer in self._buffers]
            if all(size <= there for size, there in zip(sizes, have, strict=True)):
                return
            sizes = [max(pair) for pair in zip(sizes, have, strict=True)]
        self._planner.clear()  # the addresses in them are about to change
        while self._buffers:
            self._gpu.free(self._buffers.pop())
        for size, what in zip(sizes, ('images', 'results', 'results'), strict=True):
            self._buffers.append(self._gpu.pin(size, what))

    def _run(self, batch: list[_Image], layout: ResultBlock, start: int,
             clock: StageClock) -> list[Result]:
        assert self._planner is not None
        upload, down = self._buffers[0], self._buffers[1 + self._slot]
        shared = self._gpu.integrated
        job = Job(tuple(image.source for image in batch),
                  tuple(image.geometry for image in batch), layout,
                  upload.address if shared else 0, down.address + start if shared else 0)
        try:
            plan = self._planner.plan(job)
        except FrameError as error:
            return [error] * len(batch)
        with clock.stage('decode'):
            for image, offset in zip(batch, job.offsets, strict=False):
                upload.array[offset:offset + image.pixels.size] = image.pixels
        self._capture(plan)
        block = down.array[start:start + layout.size_bytes]
        begin, _, _, end = self._marks
        self._gpu.record(begin)
        if not shared:
            self._gpu.upload(plan.upload, upload.array[:job.offsets[-1]])
        if plan.graph is not None:
            self._gpu.launch(plan.graph)
        else:
            self._enqueue(plan)
        if not shared:
            self._gpu.download(block, plan.result)
        self._gpu.record(end)
        self._gpu.wait(end)
        plan.warm = True
        self._count(clock)
        return [self._read(layout, block, index, image.geometry)
                for index, image in enumerate(batch)]

    def _enqueue(self, plan: PreparedBatch, captured: bool = False) -> None:
        """Put everything between the copies into the stream."""
        assert self._engine is not None
        _, ready, scored, _ = self._marks
        for launch in plan.before:
            self._kernels.launch(launch)
        self._gpu.record(ready, captured)
        if not plan.execution.enqueue(self._gpu.stream):
            raise BackendError(f'{self._engine.description} cannot run a batch of '
                               f'{len(plan.job.sources)}: {self._engine.reasons()}. Build the '
                               'engine again with python -m seg_node.tools.build_engine --force')
        self._gpu.record(scored, captured)
        self._gpu.clear(plan.result, plan.job.layout.zero_bytes)
        for launch in plan.after:
            self._kernels.launch(launch)

    def _capture(self, plan: PreparedBatch) -> None:
        """Record a plan that has run once; where that fails, say so and go on without graphs."""
        if plan.graph is None and plan.warm and self._captures.due():
            before = self._captures.problem
            plan.graph = self._captures.tried(
                lambda: self._gpu.capture(lambda: self._enqueue(plan, captured=True)))
            if self._captures.problem != before:
                self._describe()

    @property
    def without_graphs(self) -> str:
        """Why it goes on without CUDA graphs, '' while it does not."""
        return self._captures.problem

    def _count(self, clock: StageClock) -> None:
        """Add the GPU's own times; copies count to the stage they serve."""
        with self._gpu.stage('reading the times of the stages'):
            for name, begin, end in zip(('preprocess', 'network', 'labels'), self._marks,
                                        self._marks[1:], strict=False):
                clock.ms[name] = clock.ms.get(name, 0.0) + end.ms_since(begin)

    def _read(self, layout: ResultBlock, block: np.ndarray, index: int,
              geometry: Geometry) -> Result:
        """Read one frame's part of a result."""
        parts, spec = layout.parts(block, index), self._card.main_output
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
