"""
What TensorRT-RTX does at run time: it compiles kernels for this GPU, when they are first needed.

By itself it runs generic kernels until those made for a shape are compiled beside: a graph that is
captured meanwhile keeps the generic ones for ever. So they are compiled at once, and what was
compiled is kept beside the engine for the next start.
"""

from typing import Any, TypeAlias

from .engine_cache import VerifiedEngine
from .trt import ICudaEngine, Library

IRuntimeCache: TypeAlias = Any
IRuntimeConfig: TypeAlias = Any


class RtxSettings:
    """
    How the executions of an engine are made; only where ``library.is_rtx``.

    :param verified: where compiled kernels are kept.
    :ivar config: for ``create_execution_context``.
    """

    def __init__(self, library: Library, engine: ICudaEngine, verified: VerifiedEngine) -> None:
        trt = library.module
        self._verified = verified
        self._kept = verified.read_compiled()
        config: IRuntimeConfig = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        config.dynamic_shapes_kernel_specialization_strategy = \
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        cache: IRuntimeCache = config.create_runtime_cache()
        if self._kept:
            cache.deserialize(self._kept)  # what is of another version or GPU, it leaves out
        config.set_runtime_cache(cache)
        self.config, self._cache = config, cache

    def keep(self) -> None:
        """Keep what was compiled, if that is more than before."""
        cache: IRuntimeCache = self._cache
        compiled = bytes(cache.serialize())
        if compiled != self._kept:
            self._verified.keep_compiled(compiled)
            self._kept = compiled
