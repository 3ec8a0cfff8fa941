"""The backends by their names: loads the one that is asked for, never another."""

from collections.abc import Sequence

from ..errors import BackendError, ConfigError
from ..geometry import fit, Size
from ..model.card import ModelCard
from . import openvino
from .checked import CheckedBackend
from .onnx_runtime import OnnxBackend, version
from .segmenter import Backend
from .windows import adapted

__all__ = ['Backend', 'CPU_PROVIDER', 'load', 'ONNX_RUNTIME', 'OPENVINO']

ONNX_RUNTIME, OPENVINO = 'onnxruntime', 'openvino'
NAMES = (ONNX_RUNTIME, OPENVINO)
CPU_PROVIDER = 'CPUExecutionProvider'
#: A camera of the most usual shape, which every card takes.
SAMPLE = Size(360, 640)


def load(name: str, card: ModelCard, *, providers: Sequence[str] = (CPU_PROVIDER,),
         threads: int, gpu: int = 0, precision: str = 'fp32') -> Backend:
    """
    Load a model on the backend asked for by name; never another one.

    All but ONNX Runtime on the CPU are compared with that before they run at a size, here at that
    of a 16:9 camera; see ``CheckedBackend``.

    :param providers: of ONNX Runtime.
    :param threads: on the CPU; 0 = one a core.
    :param gpu: number of the GPU, for providers that run on one.
    :param precision: of OpenVINO, a name in ``openvino.PRECISIONS``.
    :raises ConfigError: unknown backend, provider or precision, or a card that contradicts the
        file.
    :raises BackendError: the library is missing, the model file cannot be loaded, or the labels
        are not those of ONNX Runtime on the CPU.
    """
    if name not in NAMES:
        raise ConfigError(f'backend {name!r} is unknown; allowed: {", ".join(NAMES)}')

    if name == OPENVINO:
        fast = openvino.OpenVinoBackend(card, precision=precision, threads=threads)
        return _checked(card, adapted(fast, card, fast.ranks), threads,
                        f'{fast.identity} against onnxruntime {version()}')
    backend = _onnx_runtime(card, threads, providers, gpu)
    if list(providers) == [CPU_PROVIDER]:
        return backend
    # Not kept: nothing here tells one driver or board from another.
    return _checked(card, backend, threads, '')


def _onnx_runtime(card: ModelCard, threads: int, providers: Sequence[str] = (CPU_PROVIDER,),
                  gpu: int = 0) -> Backend:
    backend = OnnxBackend(card, providers=providers, threads=threads, gpu=gpu)
    return adapted(backend, card, backend.ranks)


def _checked(card: ModelCard, backend: Backend, threads: int, kept_as: str) -> Backend:
    checked = CheckedBackend(backend, card, lambda: _onnx_runtime(card, threads), kept_as)
    size = fit(card.input, SAMPLE).network
    sides = {'N': 1, 'C': 3, 'H': size.height, 'W': size.width}
    try:
        checked.check(tuple(sides[axis] for axis in card.input.layout))
    except BackendError:
        checked.close()
        raise
    return checked
