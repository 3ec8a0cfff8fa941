"""What the other runtimes on this machine say to an imported model: OpenVINO, TensorRT."""

from collections.abc import Sequence
from pathlib import Path
import tempfile

import numpy as np

from seg_node.devices.choose import OPENVINO
from seg_node.engines.build import build, BuildOptions
from seg_node.errors import brief, ConfigError, SegNodeError
from seg_node.geometry import Size
from seg_node.gpu import trt
from seg_node.gpu.engine_cache import EngineCache
from seg_node.gpu.suits import check_heads
from seg_node.model.card import ModelCard
from seg_node.tools.build_engine import profile_of

from .recipe import Labeller
from .verify import agreement

_PICTURES = 3
#: TensorRT-RTX builds for any GPU; this one has all that later ones have.
_TARGET = (8, 9)


def tried(card: ModelCard, label: Labeller, images: Sequence[np.ndarray]) -> list[str]:
    """Return a line for each runtime that is installed here."""
    return [*_openvino(card, label, images), *_tensorrt(card, Size(*images[0].shape[:2]))]


def _openvino(card: ModelCard, label: Labeller, images: Sequence[np.ndarray]) -> list[str]:
    try:
        import openvino  # noqa: F401
    except ImportError:
        return []
    try:
        found = agreement(card, label, images[:_PICTURES], OPENVINO)
    except SegNodeError as error:
        return [f'OpenVINO: does not run it: {brief(error)}']
    return [f'OpenVINO: {found.equal:.3%} of the labels on {found.pictures} pictures, '
            f'{found.ms} ms ({found.device}).']


def _tensorrt(card: ModelCard, camera: Size) -> list[str]:
    try:
        library, gpu = trt.load(), trt.find_gpu(0)
    except SegNodeError:
        return []
    if gpu is None and not library.is_rtx:
        return [f'{library}: there is no GPU here to build for.']
    try:
        sizes = [] if card.input.size else [camera]
        order = BuildOptions('fp16', profile_of(card.input, (1, 1, 1), [], sizes),
                             None if gpu else _TARGET)
        with tempfile.TemporaryDirectory() as scratch:
            engine, _ = build(card, order, library=library, cache=EngineCache(Path(scratch)),
                              gpu=gpu, command='importing')
    except SegNodeError as error:
        return [f'{library}: builds no engine: {brief(error)}']
    try:
        check_heads(card)
        suits = ''
    except ConfigError as error:
        suits = f' The node will not run it on the GPU, though: {error}'
    return [f'{library}: an fp16 engine of {len(engine.plan) / 1e6:.1f} MB in '
            f'{engine.manifest.build["build_s"]:.0f} s.{suits}']
