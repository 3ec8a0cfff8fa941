"""Puts batches into the slots' streams: copies, kernels, network, as CUDA graphs where it can."""

from collections.abc import Sequence
from dataclasses import dataclass
import time

import numpy as np

from ..errors import BackendError, FrameError
from ..frame import PREPARE, StageClock
from ..geometry import Geometry
from .batches import Batches, Job, PreparedBatch, whole
from .captures import Captures
from .driver import Gpu
from .engine import Engine
from .graph import Graph
from .launch import aligned, ResultBlock, UploadImage
from .placement import Mode, Placement
from .resources import Module
from .slots import Slot, SLOTS, Slots

# Bytes of an image that are copied before their upload begins.
_PIECE = 1 << 20


@dataclass(frozen=True)
class Image:
    """
    A frame on its way.

    :ivar index: its place in the call.
    :ivar pixels: what is uploaded, (source.size_bytes,) uint8.
    """

    index: int
    source: UploadImage
    pixels: np.ndarray
    geometry: Geometry


@dataclass(frozen=True)
class Batch:
    """
    Images of one network size, and what is wanted of them.

    :ivar layout: of the result; outputs that are not in it are neither made nor downloaded.
    """

    images: list[Image]
    layout: ResultBlock


@dataclass(frozen=True)
class Launched:
    """
    A batch on the GPU.

    :ivar block: where the host gets its result, (layout.size_bytes,) uint8.
    """

    batch: Batch
    plan: PreparedBatch
    block: np.ndarray


class Flight:
    """
    The batches of one call.

    :ivar launched: on the GPU.
    :ivar refused: the batches that the network's output contradicts, and why.
    :ivar due: ``time.perf_counter`` when the results are likely there; 0 = that is not known.
    """

    def __init__(self, slot: Slot, mode: Mode) -> None:
        self.slot = slot
        self.mode = mode
        self.began = time.perf_counter()
        self.launched: list[Launched] = []
        self.refused: list[tuple[Batch, FrameError]] = []
        self.due = 0.0


class Runner:
    """
    Runs what ``Batches`` plans; all of it with the GPU's context current.

    :param kernels: of this package.
    """

    def __init__(self, gpu: Gpu, engine: Engine, kernels: Module, planner: Batches,
                 slots: Slots) -> None:
        self._gpu, self._engine, self._kernels = gpu, engine, kernels
        self._planner, self._slots = planner, slots
        self._captures = Captures()
        self._placement = Placement(gpu.integrated)
        self._free_at = 0.0  # when the GPU is likely to have done all it was given

    @property
    def description(self) -> str:
        """How the bytes travel, and the launches."""
        memory = f'shared memory: {self._placement}' if self._gpu.integrated \
            else 'page-locked copies'
        graphs = (f'plain launches, as CUDA graphs failed ({self.without_graphs})'
                  if self.without_graphs else 'CUDA graphs')
        return f'{memory}, {graphs}'

    @property
    def without_graphs(self) -> str:
        """Why it goes on without CUDA graphs, '' while it does not."""
        return self._captures.problem

    @property
    def warm_runs(self) -> int:
        """How often a kind of batch must run until nothing of it is made any more."""
        return max(2 * SLOTS, self._placement.runs_left + 1)

    def launch(self, batches: Sequence[Batch], clock: StageClock) -> Flight:
        """
        Put all batches of a call into the next slot's stream.

        :raises BackendError: the device or the engine fails.
        """
        flight = Flight(self._slots.next(), self._placement.mode)
        slot = flight.slot
        slot.call = flight
        self._make_room(batches)
        assert slot.images is not None and slot.results is not None
        up = down = 0
        mapped_up, mapped_down = flight.mode
        for place, batch in enumerate(batches):
            job = Job(tuple(image.source for image in batch.images),
                      tuple(image.geometry for image in batch.images), batch.layout, slot.number,
                      place, slot.results.array.ctypes.data + down,
                      slot.images.address + up if mapped_up else 0,
                      slot.results.address + down if mapped_down else 0)
            try:
                plan = self._plan(job, clock)
            except FrameError as error:
                flight.refused.append((batch, error.with_traceback(None)))
                continue
            block = slot.results.array[down:down + batch.layout.size_bytes]
            with clock.stage('decode'):
                self._bring(slot, plan, batch.images, up)
            self._launch(slot, plan, block)
            flight.launched.append(Launched(batch, plan, block))
            up += job.offsets[-1]
            down += aligned(batch.layout.size_bytes)
        flight.due = self._due(flight)
        return flight

    def wait(self, flight: Flight, clock: StageClock) -> None:
        """
        Wait until a call is done; add the GPU's times.

        :raises BackendError: the device fails.
        """
        if flight.slot.call is not flight:
            raise RuntimeError('results are to be fetched before the next but one call begins')
        flight.slot.wait()
        flight.slot.give_up()
        if self._placement.runs_left:
            self._placement.took(flight.mode, 1e3 * (time.perf_counter() - flight.began))
        for one in flight.launched:
            self._count(flight.slot, one.plan, clock)

    def _plan(self, job: Job, clock: StageClock) -> PreparedBatch:
        if self._planner.has(job):
            return self._planner.plan(job)
        with clock.stage(PREPARE):
            return self._planner.plan(job)

    def _make_room(self, batches: Sequence[Batch]) -> None:
        """Make the page-locked memory large enough."""
        images = [image for batch in batches for image in batch.images]
        up = self._planner.reserve([aligned(image.source.size_bytes) for image in images])
        # Whatever is not wanted of them now may be at the next call.
        down = max(sum(aligned(batch.layout.size_bytes) for batch in batches),
                   self._planner.reserve([whole(image.geometry.output).size_bytes
                                          for image in images]))
        if not self._slots.fit(up, down):
            self._planner.clear()  # the addresses in its plans are about to change
            self._slots.grow(up, down)

    def _bring(self, slot: Slot, plan: PreparedBatch, images: Sequence[Image],
               start: int) -> None:
        """Copy images to page-locked memory, and what has been copied on to the GPU."""
        assert slot.images is not None
        for image, offset in zip(images, plan.job.offsets, strict=False):
            for low in range(0, image.pixels.size, _PIECE):
                part = image.pixels[low:low + _PIECE]
                there = slot.images.array[start + offset + low:][:part.size]
                there[:] = part
                if not plan.job.upload:
                    self._gpu.upload(slot.stream, plan.upload + offset + low, there)

    def _launch(self, slot: Slot, plan: PreparedBatch, block: np.ndarray) -> None:
        """Launch a batch, as a graph once the network has run at its shape."""
        slot.marks(plan.job.place)  # not to be made while it is captured
        warm = self._planner.warm
        if plan.graph is None and plan.shape in warm and self._captures.due():
            plan.graph = self._captures.tried(lambda: self._capture(slot, plan, block))
        if plan.graph is not None:
            self._gpu.launch(plan.graph)
        else:
            self._enqueue(slot, plan, block)
            warm.add(plan.shape)
        slot.batches = plan.job.place + 1

    def _capture(self, slot: Slot, plan: PreparedBatch, block: np.ndarray) -> Graph:
        if not plan.execution.capturable(slot.stream.handle):
            raise BackendError(f'{self._engine.description} says that it cannot be captured: '
                               f'{self._engine.reasons()}')
        return self._gpu.capture(slot.stream, lambda: self._enqueue(slot, plan, block,
                                                                    captured=True))

    def _enqueue(self, slot: Slot, plan: PreparedBatch, block: np.ndarray,
                 captured: bool = False) -> None:
        """Put everything behind the upload into a slot's stream."""
        gpu, stream = self._gpu, slot.stream
        begin, ready, scored, end = slot.marks(plan.job.place)
        gpu.hold(stream, self._slots.other(slot).computed, captured)
        gpu.record(stream, begin, captured)
        for launch in plan.before:
            self._kernels.launch(launch, stream)
        gpu.record(stream, ready, captured)
        if not plan.execution.enqueue(stream.handle):
            raise BackendError(f'{self._engine.description} cannot run a batch of '
                               f'{len(plan.job.sources)}: {self._engine.reasons()}. Build the '
                               'engine again with python -m seg_node.tools.build_engine --force')
        gpu.record(stream, scored, captured)
        gpu.clear(stream, plan.result, plan.job.layout.zero_bytes)
        for launch in plan.after:
            self._kernels.launch(launch, stream)
        gpu.record(stream, slot.computed, captured)
        if not plan.job.result:
            gpu.download(stream, block, plan.result)
        gpu.record(stream, end, captured)

    def _due(self, flight: Flight) -> float:
        took = [one.plan.took_ms for one in flight.launched]
        if not all(took):
            return 0.0
        self._free_at = max(self._free_at, time.perf_counter()) + sum(took) / 1e3
        return self._free_at

    def _count(self, slot: Slot, plan: PreparedBatch, clock: StageClock) -> None:
        """Add the GPU's own times; the download counts to the labels."""
        marks = slot.marks(plan.job.place)
        with self._gpu.stage('reading the times of the stages'):
            times = [end.ms_since(begin) for begin, end in zip(marks, marks[1:], strict=False)]
        for name, ms in zip(('preprocess', 'network', 'labels'), times, strict=True):
            clock.ms[name] = clock.ms.get(name, 0.0) + ms
        plan.took_ms = sum(times)
