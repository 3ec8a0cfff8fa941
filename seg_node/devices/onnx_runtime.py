"""ONNX Runtime: the backend for machines without a GPU, and for GPUs without TensorRT."""

from collections.abc import Sequence
from importlib import metadata
import re
from typing import Any

import numpy as np

from ..errors import BackendError, ConfigError, DeviceLostError
from ..gpu.trt import number_by_bus
from ..model.card import check_card, ModelCard, TensorInfo
from . import cpu

_DEVICES = {'CPUExecutionProvider': 'cpu', 'CUDAExecutionProvider': 'cuda',
            'TensorrtExecutionProvider': 'cuda', 'NvTensorRTRTXExecutionProvider': 'cuda'}
# Errors of CUDA after which a process gets nothing but errors from this GPU: uncorrectable memory,
# illegal addresses and instructions, time-outs, assertions, launch failures.
_LOST = re.compile(r'CUDA (?:failure|error) (?:214|220|700|702|709|710|71[4-9]|999)\b')


_PACKAGES = ('onnxruntime', 'onnxruntime-gpu', 'onnxruntime-openvino')


def version() -> str:
    """Return the installed version without loading it, '' if there is none."""
    for package in _PACKAGES:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return ''


class OnnxBackend:
    """A network in ONNX Runtime; see ``Backend``."""

    def __init__(self, card: ModelCard, *, providers: Sequence[str], threads: int,
                 gpu: int = 0) -> None:
        self._session = _open(card, list(providers), threads, gpu)
        self._input = card.input.name
        self._outputs = [output.name for output in card.outputs]
        check_card(card, _infos(self._session.get_inputs()),
                   _infos(self._session.get_outputs()))
        shapes = {tensor.name: tensor.shape for tensor in self._session.get_outputs()}
        #: how many axes the model's own outputs have, 0 = unknown
        self.ranks = [len(shapes[name]) for name in self._outputs]
        batch = next(iter(self._session.get_inputs()[0].shape), None)  # none: it tells no shape
        self.max_batch: int | None = batch if isinstance(batch, int) else None
        import onnxruntime
        running = self._session.get_providers()[0]
        self.device = _DEVICES.get(running, running)
        where = (f'GPU {gpu}' if self.device == 'cuda'
                 else f'{threads or cpu.cores()} threads')
        self.description = f'onnxruntime {onnxruntime.__version__} {running}, {where}'
        self._bound = (BoundRun(self._session, self._outputs, 'cuda', gpu)
                       if self.device == 'cuda' else None)

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Do nothing: a first run takes hardly longer than the others."""

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """Run the network; see ``Backend.run``."""
        try:
            if self._bound is not None:
                return self._bound(tensor)
            return self._session.run(self._outputs, {self._input: tensor})
        except Exception as error:  # ONNX Runtime raises types of its own C++ module
            kind = DeviceLostError if _LOST.search(str(error)) else BackendError
            raise kind(f'ONNX Runtime failed on an input of shape {tensor.shape}: '
                       f'{error}') from error

    def close(self) -> None:
        """Free the session."""
        self._session = self._bound = None


class BoundRun:
    """
    Runs a session with its input in device memory that is kept from frame to frame.

    :param device: ONNX Runtime's name of the memory, ``'cuda'`` or ``'cpu'``.
    :param number: of the device.
    """

    def __init__(self, session: Any, outputs: Sequence[str], device: str, number: int) -> None:
        self._session, self._outputs = session, list(outputs)
        self._input = session.get_inputs()[0].name
        self._device, self._number = device, number
        self._values: dict[tuple[int, ...], Any] = {}

    def __call__(self, tensor: np.ndarray) -> list[np.ndarray]:
        """Return the outputs, in host memory."""
        from onnxruntime import OrtValue
        value = self._values.get(tensor.shape)
        if value is None:
            if len(self._values) > 16:  # cameras that keep changing their size
                self._values.clear()
            value = OrtValue.ortvalue_from_numpy(tensor, self._device, self._number)
            self._values[tensor.shape] = value
        else:
            value.update_inplace(tensor)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input, value)
        for name in self._outputs:
            binding.bind_output(name, 'cpu')
        self._session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())


def check_providers(providers: Sequence[str]) -> Any:
    """
    Return ONNX Runtime, once it is sure that this build of it has these providers.

    :raises ConfigError: it has not.
    :raises BackendError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError('backend onnxruntime needs the package onnxruntime (or '
                           f'onnxruntime-gpu): pip install onnxruntime ({error})') from error
    known = onnxruntime.get_available_providers()
    unknown = [provider for provider in providers if provider not in known]
    if unknown or not providers:
        raise ConfigError(f'providers {unknown or list(providers)} are not in this build of ONNX '
                          f'Runtime {onnxruntime.__version__}; allowed: {", ".join(known)}')
    return onnxruntime


def _open(card: ModelCard, providers: list[str], threads: int, gpu: int) -> Any:
    number_by_bus()  # device_id counts as nvidia-smi does
    onnxruntime = check_providers(providers)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cpu.cores()
    options.log_severity_level = 3
    # Idle threads that spin between frames would take the cores from everything else.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    placed = [(name, {'device_id': str(gpu)}) if _DEVICES.get(name) == 'cuda' else name
              for name in providers]
    model = card.read_model()  # not the path: another file may lie there by now
    try:
        session = onnxruntime.InferenceSession(model, options, providers=placed)
    except Exception as error:  # see run
        raise BackendError(f'{card.model_path} cannot be loaded by ONNX Runtime: {error}. Is it '
                           'an ONNX file, whole, and of an opset this version knows?') from error
    # ONNX Runtime falls back to the CPU without a word; only this list tells.
    if session.get_providers()[0] != providers[0]:
        raise BackendError(f'provider {providers[0]} was asked for but ONNX Runtime runs on '
                           f'{session.get_providers()[0]}: its libraries or the device are '
                           'missing. Install them, or set providers to what is there.')
    return session


def _infos(tensors: Any) -> list[TensorInfo]:
    return [TensorInfo.from_onnx(tensor.name, tensor.shape, tensor.type) for tensor in tensors]
