"""
Which device runs the network: the one asked for by name, or with ``auto`` the best that works.

A backend asked for by name runs or fails. ``auto`` tries TensorRT, ONNX Runtime on the GPU, and
ONNX Runtime on the CPU, and says which it took and why it did not take those before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..errors import BackendError, ConfigError, SegNodeError
from ..gpu.engine_manifest import PRECISIONS
from ..model.card import ModelCard
from ..model.policy import DrivablePolicy
from . import backend as backends
from .host import HostSegmenter
from .segmenter import Segmenter

AUTO, ONNX_RUNTIME, TENSORRT = 'auto', 'onnxruntime', 'tensorrt'
NAMES = (AUTO, ONNX_RUNTIME, TENSORRT)
CPU_PROVIDER, CUDA_PROVIDER = 'CPUExecutionProvider', 'CUDAExecutionProvider'


@dataclass(frozen=True)
class Wish:
    """
    What is to run the network.

    :ivar backend: a name in ``NAMES``.
    :ivar providers: of ONNX Runtime when it is asked for by name.
    :ivar threads: of the network on the CPU; 0 = one a core.
    :ivar gpu: number of the GPU.
    :ivar precision: of the TensorRT engine, a name in ``PRECISIONS``.
    :ivar max_batch: images at a time that the engine must take; 0 = one.
    """

    backend: str = AUTO
    providers: tuple[str, ...] = (CPU_PROVIDER,)
    threads: int = 0
    gpu: int = 0
    precision: str = 'fp16'
    max_batch: int = 0


@dataclass(frozen=True)
class Chosen:
    """A segmenter, and with ``auto`` the reasons for it ('' = it was asked for)."""

    segmenter: Segmenter
    reason: str


def open_segmenter(card: ModelCard, wish: Wish,
                   policy: DrivablePolicy | None = None) -> Chosen:
    """
    Return a segmenter for a model.

    :param policy: what is drivable; None = as the card says.

    :raises ConfigError: unknown backend, precision or provider, or what the backend refuses.
    :raises BackendError: the backend that was asked for cannot run.
    """
    if wish.backend not in NAMES:
        raise ConfigError(f'backend {wish.backend!r} is unknown; allowed: {", ".join(NAMES)}')
    if wish.precision not in PRECISIONS:
        raise ConfigError(f'precision {wish.precision!r} is unknown; allowed: '
                          f'{", ".join(PRECISIONS)}')
    if wish.backend == ONNX_RUNTIME:
        return Chosen(_onnx_runtime(card, wish, policy, wish.providers), '')
    if wish.backend == TENSORRT:
        return Chosen(_tensorrt(card, wish, policy), '')
    return _best(card, wish, policy)


def _best(card: ModelCard, wish: Wish, policy: DrivablePolicy | None) -> Chosen:
    passed_over: list[str] = []
    for name, make in _candidates(card, wish, policy):
        try:
            return Chosen(make(), '; '.join([f'auto chose {name}', *passed_over]))
        except (BackendError, ConfigError) as error:
            passed_over.append(f'not {name}: {_brief(error)}')
    # The CPU is always there, so what is wrong is the model: that error whole, as by name.
    return Chosen(_onnx_runtime(card, wish, policy, (CPU_PROVIDER,)),
                  '; '.join(['auto chose ONNX Runtime CPU', *passed_over]))


def _candidates(card: ModelCard, wish: Wish, policy: DrivablePolicy | None,
                ) -> Iterator[tuple[str, Callable[[], Segmenter]]]:
    yield 'TensorRT', lambda: _tensorrt(card, wish, policy)
    yield 'ONNX Runtime CUDA', lambda: _onnx_runtime(card, wish, policy, (CUDA_PROVIDER,))


def _onnx_runtime(card: ModelCard, wish: Wish, policy: DrivablePolicy | None,
                  providers: tuple[str, ...]) -> Segmenter:
    return HostSegmenter(card, backends.load(ONNX_RUNTIME, card, providers=providers,
                                            threads=wish.threads, gpu=wish.gpu), policy)


def _tensorrt(card: ModelCard, wish: Wish, policy: DrivablePolicy | None) -> Segmenter:
    # What needs a GPU is imported only here, so that nothing else does.
    from ..gpu import trt
    from ..gpu.engine_cache import open_verified
    from ..gpu.segmenter import TensorRTSegmenter
    gpu = trt.find_gpu(wish.gpu)
    if gpu is None:
        raise BackendError(f'there is no NVIDIA GPU number {wish.gpu} here: nvidia-smi must list '
                           'it. Install the driver, or use backend: onnxruntime.')
    engine = open_verified(card, precision=wish.precision, device=gpu,
                           max_batch=max(1, wish.max_batch))
    return TensorRTSegmenter(card, engine, wish.gpu, policy=policy)


def _brief(error: SegNodeError) -> str:
    """Return the first line of an error: the reasons stand in one line of the log."""
    return str(error).splitlines()[0]
