"""Weights with the code of their authors: a clone of their repository, which is run."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
import importlib
from pathlib import Path
import sys
from typing import Any

import cv2
import numpy as np

from seg_node.errors import ConfigError

from .libraries import target
from .recipe import imagenet, Recipe, sized, torch_labels
from .weights import fill, read_state

_BISENET = {'colour': 'rgb', 'scale': 1 / 255, 'mean': [0.3257, 0.3690, 0.3223],
            'std': [0.2112, 0.2148, 0.2115], 'interpolation': 'unrounded'}
#: What the demos of known repositories do: network, arguments, input, multiple, rounding,
#: align_corners, and whether the picture is normalised before it is resized.
_KNOWN: dict[str, dict[str, Any]] = {
    'bisenetv1': {'network': 'lib.models.bisenetv1:BiSeNetV1', 'given': {'aux_mode': 'eval'},
                  'input': _BISENET, 'multiple': 32, 'rounding': 'up'},
    'bisenetv2': {'network': 'lib.models.bisenetv2:BiSeNetV2', 'given': {'aux_mode': 'eval'},
                  'input': _BISENET, 'multiple': 32, 'rounding': 'up'},
    **{f'pidnet_{size}': {'network': 'models.pidnet:get_pred_model',
                          'given': {'name': f'pidnet_{size}'}, 'count': 'num_classes',
                          'input': imagenet(), 'align_corners': True} for size in 'sml'}}


def input_of(network: str) -> dict[str, Any]:
    """Return how the demo of a network normalises pictures; of others ImageNet's way."""
    return dict(_KNOWN.get(network, {'input': imagenet()})['input'])


def clone_recipe(weights: Path, clone: Path, network: str, classes: int,
                 size: Sequence[int] | None, short_side: int | None,
                 changes: Mapping[str, Any]) -> Recipe:
    """
    Return how to import a state dict with its authors' code. Their code runs; the user agreed.

    :param network: a name in ``_KNOWN``, or ``module:callable`` of the clone.
    :param classes: how many the network tells apart.
    :param changes: ``arguments`` of the callable, ``input`` (keys of the card's) and
        ``align_corners``, which go before those that are known.
    :raises ConfigError: no such network in the clone, or weights that do not fit.
    """
    if not clone.is_dir():
        raise ConfigError(f"--clone {clone} is no folder. Give the clone of the authors' "
                          'repository.')
    known = dict(_KNOWN.get(network, {'network': network, 'input': imagenet()}))
    if ':' not in known['network']:
        raise ConfigError(f'--network {network} is unknown; allowed: {", ".join(_KNOWN)}, or '
                          'MODULE:CALLABLE of the clone.')
    module, _, name = known['network'].partition(':')
    given = {**known.get('given', {}), known.get('count', 'n_classes'): classes,
             **changes.get('arguments', {})}
    with _importable(clone), _no_downloads():
        try:
            built = getattr(importlib.import_module(module), name)(**given)
        except (ImportError, AttributeError, TypeError) as error:
            raise ConfigError(f'{clone}: {known["network"]}({given}) does not work: {error}. '
                              'Install what the clone needs, or correct --network and '
                              '--arguments.') from error
    fill(built, read_state(weights), weights)
    scores = _first(built)
    rule = {**known['input'], **changes.get('input', {}),
            **sized(size, short_side, known.get('multiple', 1), known.get('rounding', 'nearest'),
                    f'the demo of {network}, which takes pictures as they are,')}
    corners = bool(changes.get('align_corners', known.get('align_corners', False)))
    output = {'role': 'labels', 'kind': 'logits', **({'align_corners': True} if corners else {})}
    return Recipe(scores, rule, output, None, _labeller(scores, rule, corners),
                  f'the code of {clone.resolve().name} and what its demo does', network)


def _labeller(scores: Any, rule: dict[str, Any],
              align_corners: bool) -> Callable[[np.ndarray], np.ndarray]:
    labels = torch_labels(scores, rule, align_corners)

    def label(picture: np.ndarray) -> np.ndarray:
        small = target(rule, picture)
        if small != picture.shape[:2]:
            picture_small = cv2.resize(picture.astype(np.float32), small[::-1],
                                       interpolation=cv2.INTER_LINEAR)  # after ToTensor: no levels
            return labels(picture, picture_small)
        return labels(picture, picture)
    return label


def _first(network: Any) -> Any:
    """Return the network with the first of its outputs alone."""
    import torch

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> Any:
            found = self.network(image)
            return found[0] if isinstance(found, (tuple, list)) else found
    return First().eval()


@contextmanager
def _importable(clone: Path) -> Any:
    sys.path.insert(0, str(clone.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(clone.resolve()))


@contextmanager
def _no_downloads() -> Any:
    """Keep constructors from fetching backbones: all weights are replaced anyway."""
    from torch.utils import model_zoo
    kept = model_zoo.load_url
    model_zoo.load_url = lambda *args, **given: {}
    try:
        yield
    finally:
        model_zoo.load_url = kept
