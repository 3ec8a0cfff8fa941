"""ONNX Runtime: the backend for machines without a GPU."""

from collections.abc import Sequence
import os
from typing import Any

import numpy as np

from ..card import check_card, ModelCard, TensorInfo
from ..errors import BackendError, ConfigError

_DEVICES = {'CPUExecutionProvider': 'cpu', 'CUDAExecutionProvider': 'cuda',
            'TensorrtExecutionProvider': 'cuda'}


class OnnxBackend:
    """A network in ONNX Runtime; see ``Backend``."""

    def __init__(self, card: ModelCard, *, providers: Sequence[str], threads: int) -> None:
        self._session = _open(card, list(providers), threads)
        self._input = card.input.name
        self._outputs = [output.name for output in card.outputs]
        check_card(card, _infos(self._session.get_inputs()),
                   _infos(self._session.get_outputs()))
        batch = self._session.get_inputs()[0].shape[0]
        self.max_batch: int | None = batch if isinstance(batch, int) else None
        import onnxruntime
        running = self._session.get_providers()[0]
        self.device = _DEVICES.get(running, running)
        self.description = (f'onnxruntime {onnxruntime.__version__} {running}, '
                            f'{threads or os.cpu_count()} threads')

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """Run the network; see ``Backend.run``."""
        try:
            return self._session.run(self._outputs, {self._input: tensor})
        except Exception as error:  # ONNX Runtime raises types of its own C++ module
            raise BackendError(f'ONNX Runtime failed on an input of shape {tensor.shape}: '
                               f'{error}') from error

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _open(card: ModelCard, providers: list[str], threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError('backend onnxruntime needs the package onnxruntime (or '
                           f'onnxruntime-gpu): pip install onnxruntime ({error})') from error
    known = onnxruntime.get_available_providers()
    unknown = [provider for provider in providers if provider not in known]
    if unknown or not providers:
        raise ConfigError(f'providers {unknown or providers} are not in this build of ONNX '
                          f'Runtime {onnxruntime.__version__}; allowed: {", ".join(known)}')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.log_severity_level = 3
    # Idle threads that spin between frames would take the cores from everything else.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    try:
        session = onnxruntime.InferenceSession(str(card.model_path), options,
                                               providers=providers)
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
