"""
What runs a network on the GPU: the interface the segmenter uses, and TensorRT behind it.

A CUDA graph holds on to the execution it was captured from, so every shape has an execution of
its own; they run one after another and share their scratch memory.
"""

from typing import Any, Protocol, TypeAlias

from ..errors import BackendError, ConfigError
from ..model.tensors import TensorInfo
from .driver import Gpu
from .engine_cache import VerifiedEngine
from .forms import Form, FORMS
from .rtx import RtxSettings
from .trt import deserialise, ICudaEngine, Library, load, numpy_name, reasons

IExecutionContext: TypeAlias = Any

Shape = tuple[int, ...]


class Execution(Protocol):
    """An engine set up for one shape of its input."""

    def output_shape(self, name: str) -> Shape:
        """Return the shape of an output, once the input's is set."""

    def set_address(self, name: str, address: int) -> None:
        """
        Say where on the device an input or output lies.

        :raises BackendError: the engine does not take it.
        """

    def enqueue(self, stream: int) -> bool:
        """Put the network into a stream; False when it cannot run."""

    def capturable(self, stream: int) -> bool:
        """Tell whether a stream that is captured takes it, once it has run at its shape."""

    def close(self) -> None:
        """Free it; the GPU's context is current."""


class Engine(Protocol):
    """A network loaded onto the GPU; used with the GPU's context current."""

    #: what it is, e.g. ``'tensorrt 10.3.0 fp16'``
    description: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    #: how each tensor lies in memory
    forms: dict[str, Form]

    def profile(self, name: str) -> tuple[Shape, Shape, Shape]:
        """Return the least, the best and the largest shape of an input."""

    def execution(self, name: str, shape: Shape) -> Execution:
        """
        Return a new execution for a shape of an input.

        :raises BackendError: the engine does not take it.
        """

    def reasons(self) -> str:
        """Return what the library said went wrong."""

    def close(self) -> None:
        """Free it, after its executions."""


class TrtEngine:
    """
    A TensorRT engine; see ``Engine``.

    :raises BackendError: TensorRT or the GPU refuses it.
    :raises ConfigError: its tensors do not lie in memory as the kernels read and write them.
    """

    def __init__(self, verified: VerifiedEngine, gpu: Gpu, library: Library | None = None) -> None:
        self._library = library or load(verified.manifest.key.library)
        self._loaded: Any = deserialise(self._library, verified.plan)
        engine: ICudaEngine = self._loaded.engine
        self._engine = engine
        self.is_rtx = self._library.is_rtx
        self.description = (f'{self._library} {verified.manifest.key.precision}'
                            + _layers(verified.manifest.build.get('layers')))
        trt = self._library.module
        self.inputs: list[TensorInfo] = []
        self.outputs: list[TensorInfo] = []
        self.forms: dict[str, Form] = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self.inputs if is_input else self.outputs).append(self._tensor(trt, name))
        # All executions share it; TensorRT wants a valid address even for none.
        self._scratch = gpu.allocate(max(engine.device_memory_size_v2, 1),
                                     "the engine's activations")
        self._gpu, self._stream = gpu, gpu.stream()
        self._rtx = RtxSettings(self._library, engine, verified) if self._library.is_rtx else None

    def profile(self, name: str) -> tuple[Shape, Shape, Shape]:
        profiles = self._profiles(name)
        lows, bests, highs = zip(*profiles, strict=True)
        return (tuple(min(sides) for sides in zip(*lows, strict=True)), bests[0],
                tuple(max(sides) for sides in zip(*highs, strict=True)))

    def execution(self, name: str, shape: Shape) -> 'TrtExecution':
        if self._rtx is None:
            strategy = self._library.module.ExecutionContextAllocationStrategy.USER_MANAGED
            context: IExecutionContext = self._engine.create_execution_context(strategy)
        else:
            self._rtx.keep()  # what the executions before have compiled
            context = self._engine.create_execution_context(self._rtx.config)
        if context is None:
            raise BackendError(f'{self._library} does not set up the engine: {self.reasons()}. '
                               'Use a smaller max_batch, or build the engine again with '
                               'python -m seg_node.tools.build_engine --force')
        self._take_profile(context, name, shape)
        context.set_device_memory(self._scratch.address, self._scratch.size)
        if not context.set_input_shape(name, shape):
            raise BackendError(f'{self.description} does not take an input of shape '
                               f'{list(shape)}: {self.reasons()}. Build an engine for '
                               'it: python -m seg_node.tools.build_engine')
        return TrtExecution(context, self)

    def _profiles(self, name: str) -> list[tuple[Shape, Shape, Shape]]:
        engine = self._engine
        found = [engine.get_tensor_profile_shape(name, index)
                 for index in range(engine.num_optimization_profiles)]
        return [(tuple(low), tuple(best), tuple(high)) for low, best, high in found]

    def _take_profile(self, context: IExecutionContext, name: str, shape: Shape) -> None:
        """Let an execution use the profile that was built for its shape; it has the first."""
        fitting = [index for index, (low, _, high) in enumerate(self._profiles(name)) if all(
            a <= side <= b for a, side, b in zip(low, shape, high, strict=True))]
        if not fitting or not fitting[0]:
            return
        if not context.set_optimization_profile_async(fitting[0], self._stream.handle):
            raise BackendError(f'{self.description} does not take profile {fitting[0]}: '
                               f'{self.reasons()}')
        self._gpu.drain([self._stream])

    def reasons(self) -> str:
        return reasons(self._loaded.log)

    def close(self) -> None:
        if self._rtx is not None:
            self._rtx.keep()
        self._rtx = self._engine = self._loaded = None

    def _tensor(self, trt: Any, name: str) -> TensorInfo:
        engine = self._engine
        form, place = engine.get_tensor_format(name), engine.get_tensor_location(name)
        known = {getattr(trt.TensorFormat, kind): kind for kind in FORMS}
        shape = tuple(engine.get_tensor_shape(name))
        if form not in known or place != trt.TensorLocation.DEVICE:
            raise ConfigError(f'tensor {name!r} of the engine is {form} on {place}; the kernels '
                              f'take {", ".join(FORMS)} on the device. Build the engine with '
                              'python -m seg_node.tools.build_engine')
        self.forms[name] = FORMS[known[form]]
        return TensorInfo(name, shape, numpy_name(trt, engine.get_tensor_dtype(name)))


class TrtExecution:
    """An execution context of TensorRT; see ``Execution``."""

    def __init__(self, context: IExecutionContext, engine: TrtEngine) -> None:
        self._context: IExecutionContext = context
        self._engine = engine

    def output_shape(self, name: str) -> Shape:
        return tuple(self._context.get_tensor_shape(name))

    def set_address(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise BackendError(f'{self._engine.description} does not take an address for '
                               f'{name!r}: {self._engine.reasons()}')

    def enqueue(self, stream: int) -> bool:
        return bool(self._context.execute_async_v3(stream))

    def capturable(self, stream: int) -> bool:
        # Only TensorRT-RTX can say so; elsewhere the capture itself tells.
        context: IExecutionContext = self._context
        return not self._engine.is_rtx or bool(context.is_stream_capturable(stream))

    def close(self) -> None:
        self._context = None


def _layers(precisions: Any) -> str:
    """Return how many layers really compute in which type, where the manifest knows."""
    if not isinstance(precisions, dict):
        return ''
    return f' (layers: {", ".join(f"{count} {name}" for name, count in precisions.items())})'
