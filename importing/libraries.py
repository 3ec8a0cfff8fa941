"""torchvision and segmentation_models_pytorch: a weights file and the name of its network."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg_node.errors import ConfigError
from seg_node.geometry import fit, Size
from seg_node.model.tensors import InputSpec

from .recipe import imagenet, Recipe, sized, torch_labels
from .weights import fill, read_state

# Encoders of smp that were not trained with ImageNet's usual mean and std.
_OTHER_NORMALISATION = ('xception', 'inception', 'dpn', 'tu-')
_TORCHVISION = ('fcn_', 'deeplabv3_', 'lraspp_')


def target(rule: dict[str, Any], picture: np.ndarray) -> Size:
    """Return the size that a picture is resized to by the size keys of a card."""
    keys = {key: tuple(value) if isinstance(value, list) else value for key, value in rule.items()
            if key in ('size', 'short_side', 'multiple', 'rounding', 'resize')}
    spec = InputSpec('x', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), **keys)
    return fit(spec, Size(*picture.shape[:2])).network


def torchvision_recipe(path: Path, name: str, size: Sequence[int] | None,
                       short_side: int | None) -> Recipe:
    """
    Return how to import a weights file of torchvision's segmentation models.

    :param name: e.g. ``fcn_resnet50``.
    :param short_side: None = as the library's presets, 520.
    """
    import torch
    import torchvision
    known = [entry for entry in torchvision.models.list_models() if entry.startswith(_TORCHVISION)]
    if name not in known:
        raise ConfigError(f'--torchvision {name} is unknown; allowed: {", ".join(known)}.')
    tensors = read_state(path)
    classes = next((value.shape[0] for key, value in reversed(tensors.items())
                    if 'aux' not in key and key.startswith('classifier') and value.ndim == 4), 0)
    network = torchvision.models.get_model(name, weights=None, weights_backbone=None,
                                           num_classes=classes or 21)
    fill(network, tensors, path)
    rule = {**imagenet(), 'interpolation': 'antialias',
            **sized(size, short_side or (None if size else 520), 1, 'down', name)}

    class Out(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> Any:
            return self.network(image)['out']
    scores = Out().eval()
    preset = torchvision.transforms._presets.SemanticSegmentation
    resize = torchvision.transforms.functional.resize

    def label(picture: np.ndarray) -> np.ndarray:
        from PIL import Image
        small = target(rule, picture)
        wanted = [rule['short_side']] if 'short_side' in rule else list(small)
        image = preset(resize_size=None)(resize(Image.fromarray(picture), wanted))[None]
        with torch.no_grad():
            found = torch.nn.functional.interpolate(scores(image), picture.shape[:2],
                                                    mode='bilinear', align_corners=False)
        return found.argmax(1)[0].numpy()
    voc = torchvision.models.segmentation.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1
    names = [text.strip('_') for text in voc.meta['categories']] if classes == 21 else None
    return Recipe(scores, rule, {'role': 'labels', 'kind': 'logits'}, names, label,
                  f'torchvision {torchvision.__version__}, its SemanticSegmentation preset', name,
                  'BSD-3-Clause')


def is_smp_folder(source: Path) -> bool:
    """Return whether it is a folder that smp's ``save_pretrained`` wrote."""
    try:
        return '_model_class' in json.loads((source / 'config.json').read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return False


def _normalisation(encoder: str) -> dict[str, Any]:
    """Return the encoder's, as smp tells it; where it would download that, ImageNet's."""
    import segmentation_models_pytorch as smp
    try:
        told = smp.encoders.get_preprocessing_params(encoder)
    except (KeyError, ValueError, OSError) as error:
        if encoder.startswith(_OTHER_NORMALISATION):
            raise ConfigError(f'the normalisation of the encoder {encoder} is not on this disk, '
                              'and it is not the usual one: give --mean, --std and --scale, as '
                              'smp.encoders.get_preprocessing_params tells them.') from error
        return imagenet()
    return {'colour': told['input_space'].lower(),
            'scale': 1 / 255 if (told['input_range'] or [0, 1])[1] == 1 else 1,
            'mean': [float(value) for value in told['mean'] or (0, 0, 0)],
            'std': [float(value) for value in told['std'] or (1, 1, 1)]}


def smp_recipe(source: Path, architecture: str, encoder: str, size: Sequence[int] | None,
               short_side: int | None, given: Mapping[str, Any]) -> Recipe:
    """
    Return how to import a model of segmentation_models_pytorch.

    :param source: a folder of ``save_pretrained``, or a weights file with ``architecture`` and
        ``encoder``.
    :param given: keys of the card's input that go before those of the encoder.
    """
    import segmentation_models_pytorch as smp
    rule_of_size = sized(size, short_side, 32, 'nearest', 'segmentation_models_pytorch')
    if source.is_dir():
        config = json.loads((source / 'config.json').read_text(encoding='utf-8'))
        network = smp.from_pretrained(str(source)).eval()
        architecture, encoder = config['_model_class'], config['encoder_name']
    else:
        tensors = read_state(source)
        head = next((value for key, value in reversed(tensors.items())
                     if 'segmentation_head' in key and value.ndim == 4), None)
        try:
            network = smp.create_model(architecture, encoder_name=encoder, encoder_weights=None,
                                       classes=1 if head is None else head.shape[0])
        except KeyError as error:
            raise ConfigError(f'--smp {architecture} --encoder {encoder}: '
                              f'{str(error)[:200]}') from error
        fill(network, tensors, source)
    rule = {**_normalisation(encoder), **given, **rule_of_size}
    labels = torch_labels(network, rule)

    def label(picture: np.ndarray) -> np.ndarray:
        small = cv2.resize(picture, target(rule, picture)[::-1], interpolation=cv2.INTER_LINEAR)
        return labels(picture, small)
    return Recipe(network, rule, {'role': 'labels', 'kind': 'logits'}, None, label,
                  f'segmentation_models_pytorch {smp.__version__} and its preprocessing '
                  "parameters, OpenCV's linear resize", f'{architecture} with {encoder}', 'MIT')
