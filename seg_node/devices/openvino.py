"""
OpenVINO: the faster backend for CPUs, with bfloat16 and int8 where the processor has them.

The network is compiled for each size that comes, never for any size: with dynamic shapes OpenVINO
computes int8 networks wrong (2 to 10 % of the labels right), with fixed ones right.
"""

from collections import OrderedDict
from collections.abc import Sequence
import sys
from typing import Any

import numpy as np

from ..errors import BackendError, ConfigError
from ..model.card import check_card, ModelCard, TensorInfo
from . import cpu

#: What a network can compute in here, and OpenVINO's words for it; int8 is a file of its own, of
#: which only what is not int8 computes in that.
PRECISIONS = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16', 'int8': 'f32'}
_ABILITIES = {'fp32': 'FP32', 'bf16': 'BF16', 'fp16': 'FP16', 'int8': 'INT8'}
# Each has its own copy of the weights. More camera sizes at a time take turns being compiled.
_MOST_SIZES = 4


class OpenVinoBackend:
    """
    A network in OpenVINO on the CPU; see ``Backend``. The outputs hold until the next run.

    :param precision: a name in ``PRECISIONS``.
    :param threads: 0 = one a core.
    """

    device = 'cpu'

    def __init__(self, card: ModelCard, *, precision: str, threads: int) -> None:
        self._core, version = _start()
        check_precision(self._core, precision)
        self._card = card
        self._model = _read(self._core, card, precision)
        ranks = {name: port.get_partial_shape().rank for port in self._model.outputs
                 for name in port.get_names()}
        #: how many axes the model's own outputs have, 0 = unknown
        self.ranks = [0 if ranks[output.name].is_dynamic else ranks[output.name].get_length()
                      for output in card.outputs]
        self._settings = {'INFERENCE_PRECISION_HINT': PRECISIONS[precision],
                          'PERFORMANCE_HINT': 'LATENCY',
                          # A thread tied to a core waits when the camera driver works there.
                          'ENABLE_CPU_PINNING': False,
                          'INFERENCE_NUM_THREADS': threads or cpu.cores()}
        batch = self._model.inputs[0].get_partial_shape()[0]
        self.max_batch: int | None = None if batch.is_dynamic else batch.get_length()
        self.description = (f'openvino {version} CPU {precision}, '
                            f'{self._settings["INFERENCE_NUM_THREADS"]} threads')
        #: everything that its results depend on beside the model
        copy = f' of {card.int8.sha256}' if precision == 'int8' and card.int8 else ''
        self.identity = f'openvino {version} {precision}{copy} on {cpu.identity()}'
        names = {name: n for n, port in enumerate(self._model.outputs)
                 for name in port.get_names()}
        self._outputs = [names[output.name] for output in card.outputs]
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._bound: dict[tuple[int, ...], np.ndarray] = {}  # what each request reads in place

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Compile the network for a shape of its input; see ``Backend.prepare``."""
        if shape not in self._requests:
            self._compile(shape)

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """Run the network; see ``Backend.run``."""
        request = self._requests.get(tensor.shape)
        if request is None:
            request = self._compile(tensor.shape)
        try:
            if self._bound.get(tensor.shape) is not tensor:  # nearly always the one of before
                self._bind(request, tensor)
            request.infer(share_outputs=True)
            return [request.get_output_tensor(n).data for n in self._outputs]
        except Exception as error:  # what OpenVINO raises comes from C++
            raise BackendError(f'OpenVINO failed on an input of shape {tensor.shape}: '
                               f'{error}') from error

    def close(self) -> None:
        """Free the network."""
        self._requests.clear()
        self._bound.clear()
        self._model = self._core = None

    def _bind(self, request: Any, tensor: np.ndarray) -> None:
        """Let a request read its input out of this array, which others fill."""
        from openvino import Tensor
        held = np.require(tensor, requirements=['C', 'W'])  # a copy is read once
        request.set_input_tensor(Tensor(held, shared_memory=True))
        self._bound[tensor.shape] = held

    def _compile(self, shape: tuple[int, ...]) -> Any:
        """Return a request of the network compiled for one shape of its input."""
        try:
            self._model.reshape(list(shape))
            compiled = self._core.compile_model(self._model, 'CPU', self._settings)
        except Exception as error:  # see run
            raise BackendError(f'OpenVINO cannot compile {self._card.model_path} for an input of '
                               f'shape {shape}: {error}. Set backend to onnxruntime.') from error
        while len(self._requests) >= _MOST_SIZES:
            self._bound.pop(self._requests.popitem(last=False)[0], None)
        self._requests[shape] = compiled.create_infer_request()
        return self._requests[shape]


def best_precisions(wanted: str, card: ModelCard) -> list[str]:
    """
    Return what to compute in, best first: int8 where no half precision is there.

    :param wanted: a name in ``PRECISIONS``, or auto.
    :raises BackendError: OpenVINO is not installed.
    """
    if wanted != 'auto':
        return [wanted]
    has = _precisions(_start()[0])
    fast = [name for name in ('bf16', 'fp16', 'int8')
            if name in has and (name != 'int8' or card.int8 is not None)]
    return [*fast[:1], 'fp32']


def check_precision(core: Any, precision: str) -> None:
    """
    Refuse what this processor would only pretend to compute in.

    :raises ConfigError: it is unknown, or the processor does not have it.
    """
    has = _precisions(core)
    if precision not in has:
        raise ConfigError(f'precision {precision!r} is not what OpenVINO computes in on this '
                          f'processor ({cpu.identity()}); allowed: auto, {", ".join(has)}')


def _precisions(core: Any) -> list[str]:
    """Return what is no slower here than float32, by name."""
    able = core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    return [name for name, ability in _ABILITIES.items() if ability in able
            and (name != 'int8' or cpu.has_int8_dot_product())]


def _start() -> tuple[Any, str]:
    """Return OpenVINO's core and version."""
    # Its Python package reports each import to the maker by openvino-telemetry, unless that is
    # missing. A camera's computer tells nobody anything.
    sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
    try:
        import openvino
        return openvino.Core(), str(openvino.__version__).partition('-')[0]
    except (ImportError, AttributeError) as error:
        raise BackendError('backend openvino needs the package openvino: pip install openvino '
                           f'({error})') from error


def _read(core: Any, card: ModelCard, precision: str) -> Any:
    path = card.model_path
    if precision == 'int8':
        if card.int8 is None:
            raise ConfigError(f'precision is int8, but {card.path} names no int8 copy: set it to '
                              'auto, or make one: python -m seg_node.tools.int8_copy')
        card.int8.read()  # for its checksum
        path = card.int8.path
    try:
        model = core.read_model(str(path))
    except Exception as error:  # see OpenVinoBackend.run
        raise BackendError(f'{path} cannot be loaded by OpenVINO: {error}. Set backend '
                           'to onnxruntime.') from error
    check_card(card, _infos(model.inputs), _infos(model.outputs))
    return model


def _infos(ports: Sequence[Any]) -> list[TensorInfo]:
    """Return inputs or outputs as the model has them; a tensor may have several names."""
    return [TensorInfo(name, tuple(None if side.is_dynamic else side.get_length()
                                   for side in port.get_partial_shape()),
                       str(np.dtype(port.get_element_type().to_dtype())))
            for port in ports for name in port.get_names()]
