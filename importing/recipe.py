"""What an importer knows about a model before it is exported."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seg_node.errors import ConfigError

#: (height, width, 3) uint8 RGB -> (height, width) class ids, by the library's own code.
Labeller = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Recipe:
    """
    A network with everything that its card must say.

    :ivar network: torch module, images (N, 3, H, W) -> scores (N, C, h, w); None: it is an ONNX
        file already.
    :ivar input: keys of the card's ``input``, without name, layout and dtype where torch is
        exported.
    :ivar output: keys of the card's output, without name, layout and classes.
    :ivar names: of the classes by channel; None: the source does not tell.
    :ivar label: the library's own labels of a picture.
    :ivar own: whose pre- and post-processing that is, for the card.
    :ivar family: of the network, for description and messages.
    :ivar code_licence: of the code that defines the network; '' = unknown.
    :ivar told: what the source says of the licences of ``weights`` and ``data``.
    :ivar any_size: whether its export for any size is worth trying: some bake the size in.
    :ivar onnx: the ONNX file, where there is one.
    """

    network: Any
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    names: Sequence[str] | None
    label: Labeller
    own: str
    family: str
    code_licence: str = ''
    told: Mapping[str, str] = field(default_factory=dict)
    any_size: bool = True
    onnx: Path | None = None


def imagenet(scale: float = 1 / 255) -> dict[str, Any]:
    """Return ImageNet's normalisation of RGB."""
    return {'colour': 'rgb', 'scale': scale, 'mean': [0.485, 0.456, 0.406],
            'std': [0.229, 0.224, 0.225]}


def sized(size: Sequence[int] | None, short_side: int | None, multiple: int, rounding: str,
          what: str) -> dict[str, Any]:
    """
    Return the keys for a size that the user gives.

    :raises ConfigError: neither is given, or both.
    """
    if (size is None) == (short_side is None):
        raise ConfigError(f'{what} does not tell at which size pictures go in: give --short-side '
                          'N (any camera keeps its shape) or --size HEIGHT WIDTH, as in its '
                          'training.')
    if size is not None:
        return {'size': [int(side) for side in size], 'resize': 'stretch'}
    return {'short_side': short_side, 'multiple': multiple, 'rounding': rounding,
            'resize': 'stretch'}


def torch_labels(network: Any, spec: Mapping[str, Any], align_corners: bool = False,
                 ) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """
    Return what most training code does with a resized picture.

    Normalise, run, upsample to the picture, argmax: a function of the picture and the resized one,
    both uint8 RGB.
    """
    import torch
    mean = torch.tensor(spec['mean'])[None, :, None, None]
    std = torch.tensor(spec['std'])[None, :, None, None]

    def labels(picture: np.ndarray, small: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(np.ascontiguousarray(small)).permute(2, 0, 1)[None].float()
        if spec['colour'] == 'bgr':
            pixels = pixels.flip(1)
        with torch.no_grad():
            scores = network((pixels * spec['scale'] - mean) / std)
            scores = torch.nn.functional.interpolate(
                scores, picture.shape[:2], mode='bilinear', align_corners=align_corners)
        return scores.argmax(1)[0].numpy()
    return labels
