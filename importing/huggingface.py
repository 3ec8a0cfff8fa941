"""Folders of Hugging Face transformers: config.json, preprocessor_config.json, safetensors."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import re
from typing import Any

import numpy as np

from seg_node.errors import ConfigError

from .recipe import Recipe

#: By ``model_type``: the class, and whether its classes are spread over queries.
_FAMILIES = {'segformer': ('SegformerForSemanticSegmentation', False),
             'upernet': ('UperNetForSemanticSegmentation', False),
             'maskformer': ('MaskFormerForInstanceSegmentation', True),
             'mask2former': ('Mask2FormerForUniversalSegmentation', True)}
_BILINEAR = 2
_QUERY_GRID = (384, 384)  # to which post-processing resizes the masks of queries


def is_folder(source: Path) -> bool:
    """Return whether it is such a folder."""
    return (source / 'config.json').is_file() and 'model_type' in _json(source / 'config.json')


def read(folder: Path, size: Sequence[int] | None = None) -> Recipe:
    """
    Return how to import a folder; no code of its own is run.

    :param size: (height, width) to which pictures are resized; None = as its processor says.
    :raises ConfigError: unknown architecture, no processor, or what a card cannot say.
    """
    config = _json(folder / 'config.json')
    kind = config['model_type']
    if kind not in _FAMILIES:
        raise ConfigError(f'{folder}: model_type is {kind!r}, which is not known here; allowed: '
                          f'{", ".join(_FAMILIES)}. Export it to ONNX with its own tools '
                          '(optimum-cli export onnx) and import that file.')
    if not (folder / 'preprocessor_config.json').is_file():
        raise ConfigError(f'{folder} has no preprocessor_config.json, so nobody knows what the '
                          'network was fed. Fetch it from where the model came from.')
    import transformers
    transformers.utils.logging.disable_progress_bar()
    name, queries = _FAMILIES[kind]
    try:
        network = getattr(transformers, name).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **_by_pillow(transformers))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f'{folder} cannot be loaded by transformers '
                          f'{transformers.__version__}: {str(error).splitlines()[0][:300]}. Fetch '
                          'the whole folder again, model.safetensors too.') from error
    if size is not None:
        processor.size = type(processor.size)(height=size[0], width=size[1])
    names = [config.get('id2label', {}).get(str(n), f'LABEL_{n}')
             for n in range(network.config.num_labels)]
    output = {'role': 'labels', 'kind': 'scores' if queries else 'logits'}
    return Recipe(
        network=_Scores.of(network, queries), input=_input(processor, folder), output=output,
        names=None if names[0] == 'LABEL_0' else names, label=_labeller(network, processor),
        own=f'transformers {transformers.__version__}, {type(processor).__name__} and '
            'post_process_semantic_segmentation',
        family=name.removesuffix('ForSemanticSegmentation').removesuffix(
            'ForUniversalSegmentation').removesuffix('ForInstanceSegmentation'),
        code_licence='Apache-2.0', told=_licences(folder), any_size=not queries)


def _by_pillow(transformers: Any) -> dict[str, Any]:
    """
    Return how to ask for the processor that resizes with Pillow, as checkpoints were trained.

    That by torchvision rounds otherwise: of random weights' labels 0.16 % differ between the two.
    """
    return {'use_fast': False} if int(transformers.__version__.partition('.')[0]) < 5 else {
        'backend': 'pil'}


class _Scores:
    """Wraps a model so that it gives one tensor of scores, (N, C, h, w)."""

    @staticmethod
    def of(network: Any, queries: bool) -> Any:
        """Return the module; the queries of mask classification are folded into classes."""
        import torch

        class Logits(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, image: Any) -> Any:
                return self.network(pixel_values=image).logits

        class Folded(Logits):
            """Class scores of a pixel: its queries' classes, weighted by their masks."""

            def forward(self, image: Any) -> Any:
                found = self.network(pixel_values=image)
                masks = torch.nn.functional.interpolate(
                    found.masks_queries_logits, size=_QUERY_GRID, mode='bilinear',
                    align_corners=False).sigmoid()
                classes = found.class_queries_logits.softmax(-1)[..., :-1]
                # As a product of matrices: every runtime has that, not every one einsum.
                scores = classes.transpose(1, 2) @ masks.flatten(2)
                return scores.unflatten(2, _QUERY_GRID)
        return (Folded if queries else Logits)().eval()


def _labeller(network: Any, processor: Any) -> Any:
    import torch

    def label(picture: np.ndarray) -> np.ndarray:
        from PIL import Image
        inputs = processor(images=Image.fromarray(picture), return_tensors='pt')
        with torch.no_grad():
            found = network(pixel_values=inputs['pixel_values'])
        return processor.post_process_semantic_segmentation(
            found, target_sizes=[picture.shape[:2]])[0].numpy()
    return label


def _input(processor: Any, folder: Path) -> dict[str, Any]:
    """Return the card's input as the processor says."""
    where = folder / 'preprocessor_config.json'
    if getattr(processor, 'do_center_crop', False):
        raise ConfigError(f'{where}: do_center_crop cuts the sides of the picture off, of which '
                          'no mask could be made. Set it to false.')
    if not processor.do_resize:
        raise ConfigError(f'{where}: do_resize is false, so pictures of any size went in. Give '
                          'the size as --size HEIGHT WIDTH after setting it to true.')
    if int(processor.resample) != _BILINEAR:
        raise ConfigError(f'{where}: resample is {int(processor.resample)}, but the node resizes '
                          'bilinearly (2) only. Set it to 2 where the loss of quality is small.')
    plain = not processor.do_normalize
    return {
        'colour': 'bgr' if getattr(processor, 'do_flip_channel_order', False) else 'rgb',
        'scale': float(processor.rescale_factor) if processor.do_rescale else 1,
        'mean': [0, 0, 0] if plain else [float(value) for value in processor.image_mean],
        'std': [1, 1, 1] if plain else [float(value) for value in processor.image_std],
        'interpolation': 'antialias', **_size(processor, where)}


def _size(processor: Any, where: Path) -> dict[str, Any]:
    size = {key: value for key, value in dict(processor.size).items() if value is not None}
    divisor = getattr(processor, 'size_divisor', None) or 1
    if set(size) == {'height', 'width'}:
        height, width = size['height'], size['width']
        if height % divisor or width % divisor:
            raise ConfigError(f'{where}: size {height}x{width} is no multiple of size_divisor '
                              f'{divisor}, so a border would be added that post-processing '
                              'forgets. Give --size HEIGHT WIDTH in multiples.')
        return {'size': [height, width], 'resize': 'stretch'}
    if set(size) == {'shortest_edge'} and divisor == 1:
        return {'short_side': size['shortest_edge'], 'multiple': 1, 'rounding': 'down',
                'resize': 'stretch'}
    raise ConfigError(f'{where}: size is {size} with size_divisor {divisor}: a border is added '
                      "that the library's own post-processing stretches into the picture. Give "
                      f'--size HEIGHT WIDTH in multiples of {divisor}.')


def _licences(folder: Path) -> Mapping[str, str]:
    """Return what the model card (README.md) says of licences and data."""
    try:
        text = (folder / 'README.md').read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError):
        return {}
    head = re.match(r'---\n(.*?)\n---', text, re.DOTALL)
    found = re.search(r'^license:\s*(\S+)', head.group(1), re.MULTILINE) if head else None
    return {'weights': found.group(1)} if found and found.group(1) != 'other' else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ConfigError(f'{path} cannot be read as JSON: {error}. Fetch it again.') from error
    if not isinstance(found, dict):
        raise ConfigError(f'{path} holds no mapping. Fetch it again.')
    return found
