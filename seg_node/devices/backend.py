"""
Inference backends: run the network, nothing else.

A backend is made by ``load`` and used by one thread only.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..errors import ConfigError
from ..model.card import ModelCard

NAMES = ('onnxruntime',)


class Backend(Protocol):
    """A loaded network."""

    #: what really runs, e.g. ``'onnxruntime 1.31 CPUExecutionProvider'``
    description: str
    #: where it really runs, e.g. ``'cpu'``
    device: str
    #: frames that one run can take; None = any number
    max_batch: int | None

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """
        Run the network.

        :param tensor: the card's input layout and dtype, batch first.
        :returns: the outputs in the card's order, batch first.
        :raises BackendError: when the run fails.
        """

    def close(self) -> None:
        """Free what the network holds."""


def load(name: str, card: ModelCard, *, providers: Sequence[str], threads: int,
         gpu: int = 0) -> Backend:
    """
    Load a model on the backend asked for by name; never another one.

    :param gpu: number of the GPU, for providers that run on one.

    :raises ConfigError: unknown backend or provider, or a card that contradicts the file.
    :raises BackendError: the library is missing or the model file cannot be loaded.
    """
    if name not in NAMES:
        raise ConfigError(f'backend {name!r} is unknown; allowed: {", ".join(NAMES)}')
    from .onnx_runtime import OnnxBackend
    return OnnxBackend(card, providers=providers, threads=threads, gpu=gpu)
