"""
Which device runs the network: the one asked for by name, or with ``auto`` the best that works.

A backend asked for by name runs or fails. ``auto`` tries TensorRT, ONNX Runtime on the GPU,
OpenVINO and ONNX Runtime on the CPU, and says which it took and why it did not take those before.
A precision asked for by name is what the network computes in, or nothing runs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import BackendError, brief, ConfigError
from ..geometry import Size
from ..gpu.engine_manifest import PRECISIONS as TENSORRT_PRECISIONS
from ..model.card import ModelCard
from ..model.policy import DrivablePolicy
from . import backend as backends, onnx_runtime, openvino
from .backend import CPU_PROVIDER, ONNX_RUNTIME, OPENVINO
from .host import HostSegmenter
from .presence import gpu_is_there
from .segmenter import Segmenter

__all__ = ['AUTO', 'Chosen', 'CPU_PROVIDER', 'CUDA_PROVIDER', 'NAMES', 'ONNX_RUNTIME',
           'open_segmenter', 'OPENVINO', 'PRECISION_NAMES', 'PRECISIONS', 'TENSORRT', 'Wish']

AUTO, TENSORRT = 'auto', 'tensorrt'
NAMES = (AUTO, ONNX_RUNTIME, OPENVINO, TENSORRT)
CUDA_PROVIDER = 'CUDAExecutionProvider'
#: What each backend may be asked to compute in. ONNX Runtime takes a model file as it is.
PRECISIONS = {TENSORRT: (AUTO, *TENSORRT_PRECISIONS), ONNX_RUNTIME: (AUTO, 'fp32'),
              OPENVINO: (AUTO, *openvino.PRECISIONS)}
PRECISION_NAMES = tuple(dict.fromkeys(name for names in PRECISIONS.values() for name in names))
_TENSORRT_DEFAULT = 'fp16'


@dataclass(frozen=True)
class Wish:
    """
    What is to run the network.

    :ivar backend: a name in ``NAMES``.
    :ivar providers: of ONNX Runtime when it is asked for by name.
    :ivar threads: of the network on the CPU; 0 = one a core.
    :ivar gpu: number of the GPU.
    :ivar precision: what the network computes in, a name in ``PRECISIONS`` of the backend; auto =
        fp16 with TensorRT, the fastest that the processor has with OpenVINO, the model file's own
        with ONNX Runtime.
    :ivar max_batch: images at a time that the engine must take; 0 = one.
    :ivar cameras: camera sizes that will come, as far as they are known: an engine must take them.
    """

    backend: str = AUTO
    providers: tuple[str, ...] = (CPU_PROVIDER,)
    threads: int = 0
    gpu: int = 0
    precision: str = AUTO
    max_batch: int = 0
    cameras: tuple[Size, ...] = ()

    def check(self) -> None:
        """
        Refuse words that nothing goes by; no device is asked.

        :raises ConfigError: unknown backend, precision or provider.
        :raises BackendError: the library of the backend is missing.
        """
        if self.backend not in NAMES:
            raise ConfigError(f'backend {self.backend!r} is unknown; allowed: '
                              f'{", ".join(NAMES)}')
        if self.precision not in PRECISION_NAMES:
            raise ConfigError(f'precision {self.precision!r} is unknown; allowed: '
                              f'{", ".join(PRECISION_NAMES)}')
        if self.backend == ONNX_RUNTIME:
            onnx_runtime.check_providers(self.providers)


@dataclass(frozen=True)
class Chosen:
    """
    A segmenter, and the reasons for it.

    :ivar reason: where there was a choice; '' = it was asked for.
    :ivar gpu_unused: why it runs on the CPU although a GPU is there; '' = not so.
    """

    segmenter: Segmenter
    reason: str
    gpu_unused: str = ''


def open_segmenter(card: ModelCard, wish: Wish,
                   policy: DrivablePolicy | None = None) -> Chosen:
    """
    Return a segmenter for a model.

    :param policy: what is drivable; None = as the card says.

    :raises ConfigError: unknown backend, precision or provider, or what the backend refuses.
    :raises BackendError: the backend that was asked for cannot run.
    """
    wish.check()
    if wish.backend == AUTO:
        return _best(card, wish, policy)
    if wish.backend == TENSORRT:
        return Chosen(_tensorrt(card, wish, policy), '')
    if wish.backend == OPENVINO:
        return _openvino(card, wish, policy)
    return Chosen(_onnx_runtime(card, wish, policy, wish.providers), '')


def _best(card: ModelCard, wish: Wish, policy: DrivablePolicy | None) -> Chosen:
    passed_over: list[str] = []
    for name, make in _candidates(card, wish, policy):
        try:
            chosen = make()
        except (BackendError, ConfigError) as error:
            passed_over.append(f'not {name}: {brief(error)}')
        else:
            reasons = [f'auto chose {name}', *filter(None, [chosen.reason]), *passed_over]
            return _chosen(chosen.segmenter, reasons, passed_over)
    if wish.precision not in PRECISIONS[ONNX_RUNTIME]:
        raise ConfigError(f'no backend here computes in {wish.precision}: '
                          f'{"; ".join(passed_over)}. Set precision to auto.')
    # The CPU is always there, so what is wrong is the model: that error whole, as by name.
    return _chosen(_onnx_runtime(card, wish, policy, (CPU_PROVIDER,)),
                   ['auto chose ONNX Runtime CPU', *passed_over], passed_over)


def _chosen(segmenter: Segmenter, reasons: list[str], passed_over: list[str]) -> Chosen:
    unused = segmenter.device == 'cpu' and gpu_is_there()
    return Chosen(segmenter, '; '.join(reasons), '; '.join(passed_over) if unused else '')


def _candidates(card: ModelCard, wish: Wish, policy: DrivablePolicy | None,
                ) -> Iterator[tuple[str, Callable[[], Chosen]]]:
    yield 'TensorRT', lambda: Chosen(_tensorrt(card, wish, policy), '')
    yield 'ONNX Runtime CUDA', lambda: Chosen(
        _onnx_runtime(card, wish, policy, (CUDA_PROVIDER,)), '')
    yield 'OpenVINO', lambda: _openvino(card, wish, policy)


def _check_precision(backend: str, wish: Wish) -> None:
    if wish.precision not in PRECISIONS[backend]:
        raise ConfigError(f'backend {backend} does not compute in {wish.precision}; allowed for '
                          f'precision: {", ".join(PRECISIONS[backend])}')


def _onnx_runtime(card: ModelCard, wish: Wish, policy: DrivablePolicy | None,
                  providers: tuple[str, ...]) -> Segmenter:
    _check_precision(ONNX_RUNTIME, wish)
    if wish.precision == 'fp32' and card.input.dtype == 'float16':
        raise ConfigError(f'{card.name} is a float16 model, which ONNX Runtime takes as it is: '
                          'set precision to auto, or take the float32 model')
    return HostSegmenter(card, backends.load(ONNX_RUNTIME, card, providers=providers,
                                             threads=wish.threads, gpu=wish.gpu), policy)


def _openvino(card: ModelCard, wish: Wish, policy: DrivablePolicy | None) -> Chosen:
    """Return a segmenter in the first precision that keeps the labels."""
    _check_precision(OPENVINO, wish)
    problems = []
    for precision in openvino.best_precisions(wish.precision, card):
        try:
            backend = backends.load(OPENVINO, card, threads=wish.threads, precision=precision)
        except BackendError as error:
            problems.append(f'not in {precision}: {brief(error)}')
        else:
            return Chosen(HostSegmenter(card, backend, policy), '; '.join(problems))
    raise BackendError('; '.join(problems))


def _tensorrt(card: ModelCard, wish: Wish, policy: DrivablePolicy | None) -> Segmenter:
    _check_precision(TENSORRT, wish)
    # What needs a GPU is imported only here, so that nothing else does.
    from ..gpu import trt
    from ..gpu.by_size import BySizeSegmenter
    from ..gpu.engine_cache import open_verified, VerifiedEngine
    from ..gpu.segmenter import TensorRTSegmenter
    gpu = trt.require_gpu(wish.gpu)
    precision = _TENSORRT_DEFAULT if wish.precision == AUTO else wish.precision

    def find(cameras: Sequence[Size] = (), sizes: Sequence[Size] = ()) -> VerifiedEngine:
        return open_verified(card, precision=precision, device=gpu, cameras=cameras, sizes=sizes,
                             max_batch=max(1, wish.max_batch))

    def load(engine: VerifiedEngine) -> TensorRTSegmenter:
        return TensorRTSegmenter(card, engine, wish.gpu, policy=policy)

    def first() -> VerifiedEngine:
        try:
            return find(wish.cameras)
        except ConfigError:  # no engine takes all cameras; but each may have its own
            if len(wish.cameras) < 2:
                raise
            return [find([camera]) for camera in wish.cameras][0]
    return BySizeSegmenter(load(first()), lambda size: find(sizes=[size]), load)
