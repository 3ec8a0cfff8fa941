"""
What a batch needs on the device: memory, tables and launches, made once for each kind of batch.

All addresses in it stay as they are until a larger frame makes a buffer grow; then every plan is
made anew.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from ..errors import FrameError
from ..geometry import Geometry, Size
from ..model.card import OutputSpec
from ..model.tensors import InputSpec
from . import launch
from .driver import Gpu
from .engine import Engine, Execution, Shape
from .graph import Graph
from .launch import Launch, ResultBlock, Scores, UploadImage
from .resources import Memory
from .slots import SLOTS

# Of four cameras 15 sets may be ready together, in two slots, with one set of outputs or another.
_MAX_PLANS = 128
_MAX_SHAPES = 8


@dataclass(frozen=True)
class Job:
    """
    A kind of batch.

    :ivar sources: how each image lies in memory.
    :ivar geometries: of each image; all have one network size.
    :ivar layout: of the result.
    :ivar slot: whose buffers and stream it uses.
    :ivar place: which one it is of the batches of a call.
    :ivar host: address in page-locked memory where the host gets the result.
    :ivar upload: where the GPU reads the images, 0: in the buffer they are copied to.
    :ivar result: where the GPU writes the result, 0: in the buffer it is copied from.
    """

    sources: tuple[UploadImage, ...]
    geometries: tuple[Geometry, ...]
    layout: ResultBlock
    slot: int
    place: int
    host: int
    upload: int = 0
    result: int = 0

    @property
    def offsets(self) -> list[int]:
        """Where the bytes of each image begin in the upload; at the end, their size."""
        return list(accumulate((launch.aligned(source.size_bytes) for source in self.sources),
                               initial=0))


@dataclass(eq=False)
class PreparedBatch:
    """
    A batch made ready.

    :ivar before: launches that make the network's input.
    :ivar after: launches that make the result of its output.
    :ivar upload: address of the images, ``result``: of the result.
    :ivar shape: of the network's input.
    :ivar graph: all of it recorded, once that was done.
    :ivar took_ms: what the GPU took for it last; 0 = it has not run yet.
    """

    job: Job
    shape: Shape
    execution: Execution
    before: list[Launch]
    after: list[Launch]
    upload: int
    result: int
    tables: list[Memory] = field(default_factory=list)
    graph: Graph | None = None
    took_ms: float = 0.0


class Batches:
    """
    Makes and keeps plans.

    :param spec: the network's input as the engine has it.
    :param output: the head that is labelled.
    :param max_batch: buffers are made for so many images at once.
    :param lut: 256 bytes, looked up for the drivable area.
    :param idle: waits until nothing is in flight: then memory may be freed.
    :ivar warm: shapes of the network's input that it has run at: it can be captured there.
    """

    def __init__(self, gpu: Gpu, engine: Engine, spec: InputSpec, output: OutputSpec,
                 max_batch: int, lut: np.ndarray, idle: Callable[[], None]) -> None:
        self._gpu = gpu
        self._idle = idle
        self.warm: set[Shape] = set()
        self._engine = engine
        self._spec = spec
        self._output = output
        self._max_batch = max_batch
        self._buffers: dict[str, Memory] = {}
        self._plans: OrderedDict[Job, PreparedBatch] = OrderedDict()
        self._executions: dict[Shape, Execution] = {}
        self._values = self._constant(launch.input_values(spec), 'the values of the grey levels')
        self._lut = self._constant(lut, 'a look-up table')

    def retune(self, lut: np.ndarray) -> None:
        """Put other values into the look-up table of all plans, once what runs is done."""
        self._idle()
        self._gpu.store(self._lut, lut)

    def plan(self, job: Job) -> PreparedBatch:
        """
        Return the plan of a batch.

        :raises FrameError: ``channels`` when the network's output contradicts the card.
        :raises BackendError: the device or the engine fails.
        """
        if job in self._plans:
            self._plans.move_to_end(job)
            return self._plans[job]
        if len(self._plans) >= _MAX_PLANS:
            self._idle()
        while len(self._plans) >= _MAX_PLANS:
            self._drop(self._plans.popitem(last=False)[1])
        shape = self._input_shape(job)
        execution = self._execution(shape)
        scores = self._scores(execution)
        self._grow(self._sizes(job, scores), shape)
        for tensor in (*self._engine.inputs, *self._engine.outputs):
            execution.set_address(tensor.name, self._buffers[f'tensor {tensor.name}'].address)
        plan = PreparedBatch(
            job, shape, execution, [], [],
            job.upload or self._buffers[f'upload {job.slot}'].address,
            job.result or self._buffers[f'result {job.slot}'].address)
        self._plans[job] = plan
        self._fill(plan, scores)
        return plan

    def has(self, job: Job) -> bool:
        """Tell whether a plan is there."""
        return job in self._plans

    def clear(self, keep: Shape | None = None) -> None:
        """Wait until nothing is in flight; forget all plans and executions but one shape's."""
        self._idle()
        while self._plans:
            self._drop(self._plans.popitem()[1])
        for shape in [shape for shape in self._executions if shape != keep]:
            self._executions.pop(shape).close()
            self.warm.discard(shape)

    def reserve(self, parts: Sequence[int]) -> int:
        """Return the bytes to make room for, given those of each image of a batch."""
        return max(sum(parts), max(parts) * self._max_batch)

    def _drop(self, plan: PreparedBatch) -> None:
        if plan.graph is not None:
            plan.graph.close()
        for memory in plan.tables:
            self._gpu.free(memory)

    def _input_shape(self, job: Job) -> Shape:
        count, (height, width) = len(job.sources), job.geometries[0].network
        return ((count, 3, height, width) if self._spec.layout == 'NCHW'
                else (count, height, width, 3))

    def _execution(self, shape: Shape) -> Execution:
        if shape in self._executions:
            return self._executions[shape]
        if len(self._executions) >= _MAX_SHAPES:  # cameras that keep changing their size
            self.clear()
        execution = self._executions[shape] = self._engine.execution(self._spec.name, shape)
        return execution

    def _scores(self, execution: Execution) -> Scores:
        spec, shape = self._output, execution.output_shape(self._output.name)
        tensor = next(t for t in self._engine.outputs if t.name == spec.name)
        sizes = dict(zip(spec.layout, shape, strict=True))
        if sizes['C'] != len(spec.classes):  # a dynamic channel axis shows only now
            raise FrameError('channels', f'output {spec.name} has {sizes["C"]} channels, but the '
                             f'card lists {len(spec.classes)}: mend `classes` or `layout` in the '
                             'card')
        return Scores(tensor.dtype, spec.layout, sizes['C'], Size(sizes['H'], sizes['W']),
                      spec.kind == 'logits', spec.temperature, self._engine.forms[spec.name])

    def _input_bytes(self, job: Job) -> int:
        return launch.input_bytes(self._spec, job.geometries[0].network,
                                  self._engine.forms[self._spec.name])

    def _sizes(self, job: Job, scores: Scores) -> dict[str, int]:
        """Return how large each buffer must be."""
        most = self._max_batch
        sizes = {f'tensor {self._spec.name}': most * self._input_bytes(job),
                 f'tensor {self._output.name}': most * scores.image_bytes,
                 'winners': most * scores.winner_bytes}
        # Whatever is not wanted now may be at the next call: nothing is to move then.
        if scores.softmax:
            sizes['sums'] = most * scores.sum_bytes
        sizes['entropies'] = most * scores.entropy_bytes
        for slot in range(SLOTS):  # the other one will need it, too
            if not job.upload:
                sizes[f'upload {slot}'] = self.reserve(
                    [launch.aligned(s.size_bytes) for s in job.sources])
            if not job.result:
                sizes[f'result {slot}'] = self.reserve(
                    [whole(output).size_bytes for output in job.layout.outputs])
        return sizes

    def _grow(self, sizes: dict[str, int], shape: Shape) -> None:
        """Make buffers larger where they must be; then all plans but that shape's execution go."""
        small = [name for name, size in sizes.items()
                 if name not in self._buffers or self._buffers[name].size < size]
        if small:
            self.clear(keep=shape)
        for name in small:
            if name in self._buffers:
                self._gpu.free(self._buffers.pop(name))
            self._buffers[name] = self._gpu.allocate(sizes[name], name)
            if name == f'tensor {self._spec.name}':  # what a form has room for beside the colours
                self._gpu.store(self._buffers[name].address, np.zeros(sizes[name], np.uint8))

    def _fill(self, plan: PreparedBatch, scores: Scores) -> None:
        """Upload the tables and list the launches."""
        job, buffers, spec = plan.job, self._buffers, self._spec
        size, form = self._input_bytes(job), self._engine.forms[spec.name]
        values = buffers[f'tensor {self._output.name}'].address
        winners = buffers['winners'].address
        wanted = job.layout.confidence and scores.softmax
        sums = buffers['sums'].address if wanted else 0
        entropies = buffers['entropies'].address if job.layout.entropy else 0
        network = buffers[f'tensor {spec.name}'].address
        plan.after.append(launch.winners_launch(scores, job.layout, values=values, winners=winners,
                                         sums=sums, result=plan.result, entropies=entropies))
        for index, (source, geometry) in enumerate(zip(job.sources, job.geometries, strict=True)):
            table = launch.tables_for(geometry, scores.size, self._output.align_corners)
            memory = self._keep(plan, table.data, 'coordinate tables')
            remap = 0
            if geometry.rectification is not None:
                positions = geometry.rectification.positions(geometry.content)
                remap = self._keep(plan, positions, 'rectification').address
            plan.before.append(launch.preprocess_launch(
                spec, geometry, source, table, upload=plan.upload + job.offsets[index],
                tables=memory.address, values=self._values, output=network + index * size,
                remap=remap, form=form))
            plan.after.append(launch.labels_launch(
                scores, job.layout, index, table, values=values, winners=winners, sums=sums,
                tables=memory.address, result=plan.result,
                luts=[self._lut] * job.layout.products, entropies=entropies))

    def _constant(self, data: np.ndarray, what: str) -> int:
        """Upload what stays as long as this; return its address."""
        memory = self._gpu.allocate(data.nbytes, what)
        self._gpu.store(memory.address, np.ascontiguousarray(data))
        return memory.address

    def _keep(self, plan: PreparedBatch, data: np.ndarray, what: str) -> Memory:
        """Upload what a batch needs as long as it is kept."""
        memory = self._gpu.allocate(data.nbytes, what)
        plan.tables.append(memory)
        self._gpu.store(memory.address, np.ascontiguousarray(data))
        return memory


def whole(output: Size) -> ResultBlock:
    """Return the layout of a result of one image with everything that can be wanted."""
    return ResultBlock((output,), confidence=True, products=1, entropy=True)
