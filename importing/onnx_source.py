"""An ONNX file with a few options: what the file tells is read, the rest must be said."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg_node import reference
from seg_node.errors import ConfigError
from seg_node.geometry import fit, Size
from seg_node.model.tensors import InputSpec, TensorInfo

from .recipe import Recipe, sized


def onnx_recipe(path: Path, options: Mapping[str, Any], size: Sequence[int] | None,
                short_side: int | None) -> Recipe:
    """
    Return how to import an ONNX file.

    :param options: ``colour``, ``scale``, ``mean``, ``std``, ``interpolation``, ``kind``,
        ``output``, ``align_corners``; None where not given.
    :raises ConfigError: no image input, an output that is to be named, or a kind that the values
        contradict.
    """
    import onnxruntime
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    given, found = ([TensorInfo.from_onnx(t.name, t.shape, t.type) for t in tensors]
                    for tensors in (session.get_inputs(), session.get_outputs()))
    if len(given) != 1 or len(given[0].shape) != 4:
        raise ConfigError(f'{path} has the inputs {", ".join(map(str, given))}; allowed is one '
                          'image with 4 axes. Export it with the image as its single input.')
    image = given[0]
    layout = next((name for name in ('NCHW', 'NHWC') if image.size_of('C', name) == 3), None)
    if layout is None:
        raise ConfigError(f'{path}: none of the axes of {image} has 3 channels. Export it for '
                          'colour pictures.')
    head = _head(found, options.get('output'), path)
    fixed = image.size_of('H', layout), image.size_of('W', layout)
    if None not in fixed:
        if size is not None and tuple(size) != fixed:
            raise ConfigError(f'--size {size[0]} {size[1]} contradicts {path}, whose input is '
                              f'baked in at {fixed[0]} x {fixed[1]}. Leave --size out, or export '
                              'it at the size wanted.')
        rule = {'size': list(fixed), 'resize': 'stretch'}
    else:
        rule = sized(size, short_side, 32, 'nearest', f'{path} takes any size and')
    missing = [name for name in ('colour', 'mean', 'std') if options.get(name) is None]
    if image.dtype != 'uint8' and missing:
        raise ConfigError(f'{path} does not tell how its pictures were prepared: give '
                          f'{", ".join(f"--{name}" for name in missing)} (and --scale where it '
                          'was fed 0..1), as in its training or demo code.')
    spec = {'layout': layout, 'dtype': image.dtype, 'colour': options.get('colour') or 'rgb',
            'scale': options.get('scale') or 1, 'mean': list(options.get('mean') or (0, 0, 0)),
            'std': list(options.get('std') or (1, 1, 1)), 'name': image.name, **rule}
    if options.get('interpolation'):
        spec['interpolation'] = options['interpolation']
    kind = options.get('kind') or ('labels' if 'int' in head.dtype else None)
    if kind is None:
        raise ConfigError(f'{path}: what {head} holds must be said: --kind logits, probabilities, '
                          'scores, labels or sigmoid.')
    output = {'role': 'labels', 'kind': kind, 'name': head.name, 'layout': _layout(head, layout)}
    if kind == 'sigmoid':
        output['activation'] = 'applied'
    if options.get('align_corners'):
        output['align_corners'] = True
    return Recipe(None, spec, output, None, _labeller(session, spec, output),
                  'the formula of the card in plain numpy on ONNX Runtime', path.stem, onnx=path)


def _head(outputs: Sequence[TensorInfo], name: str | None, path: Path) -> TensorInfo:
    if name is None and len(outputs) > 1:
        raise ConfigError(f'{path} has the outputs {", ".join(map(str, outputs))}: say which one '
                          'by --output NAME.')
    head = next((tensor for tensor in outputs if name in (None, tensor.name)), None)
    if head is None:
        raise ConfigError(f'{path} has no output {name}; it has '
                          f'{", ".join(tensor.name for tensor in outputs)}.')
    return head


def _layout(head: TensorInfo, image: str) -> str:
    """Return the layout of the output: that of the image, unless it has no channels."""
    return 'NHW' if len(head.shape) == 3 and 'int' in head.dtype else image


def _labeller(session: Any, spec: Mapping[str, Any], output: Mapping[str, Any]) -> Any:
    keys = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()
            if key in ('size', 'short_side', 'multiple', 'rounding', 'resize')}
    rule = InputSpec('x', spec['layout'], spec['colour'], spec['dtype'], (0, 0, 0), (1, 1, 1),
                     **keys)

    def label(picture: np.ndarray) -> np.ndarray:
        geometry = fit(rule, Size(*picture.shape[:2]))
        if spec.get('interpolation') == 'antialias':
            from PIL import Image
            small = np.asarray(Image.fromarray(picture).resize(
                geometry.network[::-1], Image.Resampling.BILINEAR))
        else:
            small = cv2.resize(picture, geometry.network[::-1], interpolation=cv2.INTER_LINEAR)
        small = small if spec['colour'] == 'rgb' else small[..., ::-1]
        values = (small * spec['scale'] - np.array(spec['mean'])) / np.array(spec['std'])
        values = values.transpose(2, 0, 1) if spec['layout'] == 'NCHW' else values
        [maps] = session.run([output['name']], {spec['name']: values.astype(spec['dtype'])[None]})
        corners = output.get('align_corners', False)
        if output['kind'] == 'labels':
            ids = maps.reshape(maps.shape[-2:] if output['layout'] != 'NHWC' else maps.shape[1:3])
            rows, columns = (geometry.rows(ids.shape[0]), geometry.columns(ids.shape[1]))
            return ids[rows.nearest][:, columns.nearest]
        maps = maps[0] if output['layout'] == 'NCHW' else maps[0].transpose(2, 0, 1)
        if output['kind'] == 'sigmoid':
            maps = np.concatenate([np.full_like(maps, 0.5), maps])
        return reference.labels(maps, geometry.rows(maps.shape[1], corners),
                                geometry.columns(maps.shape[2], corners))
    return label
