"""
Writes the palette models: tiny real networks whose answer is known for every pixel.

A 1x1 convolution with weights ``2 c_k`` and bias ``-|c_k|^2`` scores each pixel by its distance to
the colour ``c_k`` of class k, so an image painted with ``load_taxonomy('cityscapes19')
.palette_bgr()[labels]`` (uint8 BGR) comes back as ``labels``, exactly, while swapped colour
channels or a wrong mean and std give nonsense. Every model has a card that ``load_card`` accepts
by its folder, and 19 Cityscapes classes unless the table says otherwise.

The cards make the network's grid equal to the camera's for a 160x120 camera, so paint that size
for pixel-exact answers (blocks of 8x8 pixels, aligned, for palette_stride8). Other sizes are
resized first, and colours between two classes appear along their border.

===================== ========================================================================
palette_cityscapes19  the plain one: NCHW rgb float32, ImageNet mean and std, any batch, height
                      and width; logits at stride 1; letterbox to a multiple of 8
palette_stride8       the same with logits at stride 8 (average of each 8x8 block); stretch
palette_nhwc_uint8    NHWC bgr uint8, raw pixel values; NHWC logits at stride 1
palette_fp16          float16 in and out
palette_labels        ArgMax inside: int64 class ids, NHW
palette_softmax       NHWC rgb scaled to -1..1, as from TensorFlow; NHWC probabilities
palette_binary        one sigmoid channel, applied: "road" against all else; drivable mask only
palette_two_heads     logits, and a raw one-channel drivable head that also takes "terrain", which
                      the class table does not: the two masks tell which head made them
palette_fixed         input of exactly [1, 3, 120, 160]; stretch
===================== ========================================================================

Run ``python test/models/make_palette_models.py [folder]`` to write them again; the bytes are the
same every time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import hashlib
from pathlib import Path
import sys
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import yaml

from seg_node.model.taxonomy import load_taxonomy

TABLE = load_taxonomy('cityscapes19')
IMAGENET = {'scale': 1, 'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375]}
TF = {'scale': 0.00784313725490196, 'mean': [1, 1, 1], 'std': [1, 1, 1]}
RAW = {'scale': 1, 'mean': [0, 0, 0], 'std': [1, 1, 1]}
TYPES = {'float32': TensorProto.FLOAT, 'float16': TensorProto.FLOAT16, 'uint8': TensorProto.UINT8}


@dataclass(frozen=True)
class Variant:
    """One palette model: what its card says, and the ``heads`` by which its graph ends."""

    name: str
    about: str
    heads: tuple[str, ...] = ('logits',)
    layout: str = 'NCHW'
    colour: str = 'rgb'
    dtype: str = 'float32'
    norm: tuple[tuple[str, Any], ...] = tuple(IMAGENET.items())
    stride: int = 1
    fixed: bool = False
    letterbox: bool = False
    sharpness: float = 1.0  # factor on the scores, where the network's colours lie close together
    positive: tuple[str, ...] = ('road',)


VARIANTS = (
    Variant('palette_cityscapes19', 'logits at stride 1', letterbox=True),
    Variant('palette_stride8', 'logits at stride 8', stride=8),
    Variant('palette_nhwc_uint8', 'NHWC BGR uint8 in, NHWC logits out', layout='NHWC',
            colour='bgr', dtype='uint8', norm=tuple(RAW.items()), sharpness=1 / 4096),
    Variant('palette_fp16', 'float16 in and out', dtype='float16'),
    Variant('palette_labels', 'ArgMax inside', heads=('labels',)),
    Variant('palette_softmax', 'softmax inside, NHWC', heads=('probabilities',), layout='NHWC',
            norm=tuple(TF.items()), sharpness=16.0),
    Variant('palette_binary', 'road against all else', heads=('sigmoid',)),
    Variant('palette_two_heads', 'logits and a drivable head', heads=('logits', 'raw'),
            positive=('road', 'terrain')),
    Variant('palette_fixed', 'fixed input size', fixed=True),
)


class Graph:
    """The nodes and weights of an ONNX graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def weight(self, name: str, values: np.ndarray) -> str:
        """Append a constant and return its name."""
        self.weights.append(numpy_helper.from_array(values, name))
        return name


def add_scores(graph: Graph, variant: Variant) -> str:
    """Append the path from the image to one NCHW score a class; return that tensor's name."""
    norm = dict(variant.norm)
    colours = np.array([item.colour for item in TABLE.classes], np.float64)
    if variant.colour == 'bgr':
        colours = colours[:, ::-1]
    colours = (colours * norm['scale'] - norm['mean']) / norm['std']
    kind = np.float16 if variant.dtype == 'float16' else np.float32
    weight = (2 * variant.sharpness * colours).astype(kind)[:, :, None, None]
    bias = (-variant.sharpness * (colours ** 2).sum(axis=1)).astype(kind)
    last = 'image'
    if variant.dtype == 'uint8':
        last = graph.add('Cast', [last], 'floats', to=TensorProto.FLOAT)
    if variant.layout == 'NHWC':
        last = graph.add('Transpose', [last], 'planes', perm=[0, 3, 1, 2])
    if variant.stride > 1:
        side = [variant.stride] * 2
        last = graph.add('AveragePool', [last], 'means', kernel_shape=side, strides=side)
    ends_here = 'logits' in variant.heads and variant.layout == 'NCHW'
    return graph.add('Conv', [last, graph.weight('w', weight), graph.weight('b', bias)],
                     'logits' if ends_here else 'scores')


def add_head(graph: Graph, scores: str, kind: str, variant: Variant) -> str:
    """Append one output and return its name."""
    if kind == 'labels':
        return graph.add('ArgMax', [scores], 'labels', axis=1, keepdims=0)
    if kind in ('sigmoid', 'raw'):
        inside = [TABLE.names.index(name) for name in variant.positive]
        outside = [index for index in TABLE.ids if index not in inside]
        best = []
        for name, ids in (('inside', inside), ('outside', outside)):
            picked = graph.add('Gather', [scores, graph.weight(f'{name}_ids', np.array(ids))],
                               f'{name}_scores', axis=1)
            best.append(graph.add('ReduceMax', [picked], name, axes=[1]))
        margin = graph.add('Sub', best, 'drivable' if kind == 'raw' else 'margin')
        return margin if kind == 'raw' else graph.add('Sigmoid', [margin], 'drivable')
    if variant.layout == 'NHWC':
        name = 'logits' if kind == 'logits' else 'channels_last'
        scores = graph.add('Transpose', [scores], name, perm=[0, 2, 3, 1])
    if kind == 'probabilities':
        return graph.add('Softmax', [scores], kind, axis=-1)
    return scores


def model(variant: Variant) -> bytes:
    """Return the ONNX file of a variant."""
    graph = Graph()
    scores = add_scores(graph, variant)
    names = [add_head(graph, scores, kind, variant) for kind in variant.heads]
    batch, height, width = (1, 120, 160) if variant.fixed else ('batch', 'height', 'width')
    axes = {'N': batch, 'C': 3, 'H': height, 'W': width}
    image = helper.make_tensor_value_info('image', TYPES[variant.dtype],
                                          [axes[axis] for axis in variant.layout])
    outputs = [_value_info(kind, name, variant, axes)
               for kind, name in zip(variant.heads, names, strict=True)]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, variant.name, [image], outputs, graph.weights),
        opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def _value_info(kind: str, name: str, variant: Variant, axes: dict[str, int | str]) -> Any:
    axes = {**axes, 'C': 1 if kind in ('sigmoid', 'raw') else len(TABLE)}
    if variant.stride > 1:
        axes |= {'H': 'rows', 'W': 'columns'}
    dtype = {'labels': 'int64'}.get(kind, 'float16' if variant.dtype == 'float16' else 'float32')
    types = TYPES | {'int64': TensorProto.INT64}
    return helper.make_tensor_value_info(name, types[dtype],
                                         [axes[axis] for axis in _out_layout(kind, variant)])


def _out_layout(kind: str, variant: Variant) -> str:
    if kind == 'labels':
        return 'NHW'
    return 'NCHW' if kind in ('sigmoid', 'raw') else variant.layout


def card(variant: Variant, data: bytes) -> dict[str, Any]:
    """Return the content of a variant's card."""
    size: dict[str, Any] = {'short_side': 120, 'multiple': 8, 'resize': 'stretch'}
    if variant.fixed:
        size = {'size': [120, 160], 'resize': 'stretch'}
    elif variant.letterbox:
        size |= {'resize': 'letterbox', 'pad_value': 0}
    return {
        'name': variant.name,
        'description': f'Nearest Cityscapes colour of each pixel, for tests: {variant.about}.',
        'file': 'model.onnx', 'size_bytes': len(data), 'sha256': hashlib.sha256(data).hexdigest(),
        'opset': 17,
        'licences': {'code': 'Apache-2.0', 'weights': 'Apache-2.0', 'data': 'none'},
        'input': {'name': 'image', 'layout': variant.layout, 'colour': variant.colour,
                  'dtype': variant.dtype, **dict(variant.norm), **size},
        'outputs': [_output(kind, variant) for kind in variant.heads],
    }


def _output(kind: str, variant: Variant) -> dict[str, Any]:
    layout = _out_layout(kind, variant)
    if kind in ('logits', 'probabilities', 'labels'):
        return {'name': kind, 'role': 'labels', 'kind': kind, 'layout': layout,
                'classes': TABLE.name}
    other = {'id': 0, 'name': 'other', 'colour': [0, 0, 0], 'drivable': False, 'dynamic': False}
    drivable = {'id': 1, 'name': ' or '.join(variant.positive), 'colour': [128, 64, 128],
                'drivable': True, 'dynamic': False}
    return {'name': 'drivable', 'role': 'drivable', 'kind': 'sigmoid', 'layout': layout,
            'activation': 'raw' if kind == 'raw' else 'applied', 'classes': [other, drivable]}


def write(folder: Path, variants: Sequence[Variant] = VARIANTS) -> None:
    """Write every variant's model.onnx and card.yaml into a folder of its own."""
    for variant in variants:
        data = model(variant)
        place = folder / variant.name
        place.mkdir(parents=True, exist_ok=True)
        (place / 'model.onnx').write_bytes(data)
        text = yaml.safe_dump(card(variant, data), sort_keys=False, width=99,
                              default_flow_style=None)
        (place / 'card.yaml').write_text(
            f'# Written by make_palette_models.py; change it there.\n{text}', encoding='utf-8')
        print(f'{place}: {len(data)} bytes')


if __name__ == '__main__':
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
