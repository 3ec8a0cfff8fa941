"""
What a batch needs on the device: memory, tables and launches, made once for each kind of batch.

All addresses in it stay as they are until a larger frame makes a buffer grow; then every plan is
made anew.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import prod

import numpy as np

from ..errors import FrameError
from ..geometry import Geometry, Size
from ..model.card import OutputSpec
from ..model.tensors import InputSpec
from . import launch
from .driver import Gpu, Memory
from .engine import Engine, Execution, Shape
from .graph import Graph
from .launch import Launch, ResultBlock, Scores, UploadImage

_MAX_PLANS = 32
_MAX_SHAPES = 8


@dataclass(frozen=True)
class Job:
    """
    A kind of batch.

    :ivar sources: how each image lies in memory.
    :ivar geometries: of each image; all have one network size.
    :ivar layout: of the result.
    :ivar upload: where the GPU reads the images, 0: in the buffer they are copied to.
    :ivar result: where the GPU writes the result, 0: in the buffer it is copied from.
    """

    sources: tuple[UploadImage, ...]
    geometries: tuple[Geometry, ...]
    layout: ResultBlock
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
    :ivar graph: all of it recorded, once that was done.
    :ivar warm: it has run.
    """

    job: Job
    execution: Execution
    before: list[Launch]
    after: list[Launch]
    upload: int
    result: int
    tables: list[Memory] = field(default_factory=list)
    graph: Graph | None = None
    warm: bool = False


class Batches:
    """
    Makes and keeps plans.

    :param spec: the network's input as the engine has it.
    :param output: the head that is labelled.
    :param max_batch: buffers are made for so many images at once.
    :param lut: 256 bytes, looked up for the drivable area, or None.
    """

    def __init__(self, gpu: Gpu, engine: Engine, spec: InputSpec, output: OutputSpec,
                 max_batch: int, lut: np.ndarray | None) -> None:
        self._gpu = gpu
        self._engine = engine
        self._spec = spec
        self._output = output
        self._max_batch = max_batch
        self._buffers: dict[str, Memory] = {}
        self._plans: OrderedDict[Job, PreparedBatch] = OrderedDict()
        self._executions: dict[Shape, Execution] = {}
        self._values = self._constant(launch.input_values(spec), 'the values of the grey levels')
        self._luts = [] if lut is None else [self._constant(lut, 'a look-up table')]

    def retune(self, lut: np.ndarray) -> None:
        """Put other values into the look-up table, which every plan reads; between two runs."""
        for address in self._luts:
            self._gpu.store(address, lut)

    def plan(self, job: Job) -> PreparedBatch:
        """
        Return the plan of a batch.

        :raises FrameError: ``channels`` when the network's output contradicts the card.
        :raises BackendError: the device or the engine fails.
        """
        if job in self._plans:
            self._plans.move_to_end(job)
            return self._plans[job]
        while len(self._plans) >= _MAX_PLANS:
            self._drop(self._plans.popitem(last=False)[1])
        shape = self._input_shape(job)
        execution = self._execution(shape)
        scores = self._scores(execution)
        if self._grow(self._sizes(job, scores, execution)):
            self.clear(keep=shape)
        for tensor in (*self._engine.inputs, *self._engine.outputs):
            execution.set_address(tensor.name, self._buffers[f'tensor {tensor.name}'].address)
        plan = PreparedBatch(job, execution, [], [], job.upload or self._buffers['upload'].address,
                    job.result or self._buffers['result'].address)
        self._plans[job] = plan
        self._fill(plan, scores)
        return plan

    def clear(self, keep: Shape | None = None) -> None:
        """Forget all plans, and all executions but that of a shape."""
        while self._plans:
            self._drop(self._plans.popitem()[1])
        for shape in [shape for shape in self._executions if shape != keep]:
            self._executions.pop(shape).close()

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
        execution = self._executions[shape] = self._engine.execution()
        execution.set_input_shape(self._spec.name, shape)
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
                      spec.kind == 'logits', spec.temperature)

    def _sizes(self, job: Job, scores: Scores, execution: Execution) -> dict[str, int]:
        """Return how large each buffer must be."""
        most, images = self._max_batch, len(job.sources)
        sizes = {f'tensor {self._spec.name}':
                 most * launch.input_bytes(self._spec, job.geometries[0].network),
                 'winners': most * scores.winner_bytes}
        for tensor in self._engine.outputs:
            values = prod(execution.output_shape(tensor.name))
            sizes[f'tensor {tensor.name}'] = (most * values * np.dtype(tensor.dtype).itemsize
                                              // images)
        if job.layout.confidence and scores.softmax:
            sizes['sums'] = most * scores.sum_bytes
        if job.layout.entropy:
            sizes['entropies'] = most * scores.entropy_bytes
        if not job.upload:
            sizes['upload'] = self.reserve([launch.aligned(s.size_bytes) for s in job.sources])
        if not job.result:
            sizes['result'] = self.reserve(
                [alone(job.layout, output).size_bytes for output in job.layout.outputs])
        return sizes

    def _grow(self, sizes: dict[str, int]) -> bool:
        """Make buffers larger where they must be; return whether any was."""
        small = [name for name, size in sizes.items()
                 if name not in self._buffers or self._buffers[name].size < size]
        for name in small:
            if name in self._buffers:
                self._gpu.free(self._buffers.pop(name))
            self._buffers[name] = self._gpu.allocate(sizes[name], name)
        return bool(small)

    def _fill(self, plan: PreparedBatch, scores: Scores) -> None:
        """Upload the tables and list the launches."""
        job, buffers, spec = plan.job, self._buffers, self._spec
        size = launch.input_bytes(spec, job.geometries[0].network)
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
                remap=remap))
            plan.after.append(launch.labels_launch(
                scores, job.layout, index, table, values=values, winners=winners, sums=sums,
                tables=memory.address, result=plan.result, luts=self._luts, entropies=entropies))


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


def alone(layout: ResultBlock, output: Size) -> ResultBlock:
    """Return the layout of a result of one image only."""
    return replace(layout, outputs=(output,))
