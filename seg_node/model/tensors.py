"""A model's tensors: as a card describes them, as the file has them, and whether both agree."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from .schema import suggestion
from .taxonomy import ClassTable, UNLABELLED

_FLOATS = ('float32', 'float16')
_INTEGERS = ('int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64')
_ONNX_TYPES = {'float': 'float32', 'double': 'float64'}


@dataclass(frozen=True)
class Window:
    """
    The part of the picture that the network gets at a time; the scores of all are averaged.

    :ivar size: (height, width), the network's input.
    :ivar stride: (rows, columns) from one to the next.
    """

    size: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True)
class InputSpec:
    """
    How an image becomes the network's input.

    Convention: ``x_net = (x * scale - mean) / std`` with x the pixel value 0..255; mean and std
    are in the network's channel order. Sizes are (height, width) in pixels. Exactly one of
    ``size`` (fixed input) and ``short_side`` (dynamic input) is set.

    :ivar multiple: with short_side, both sides of the input are multiples of this.
    :ivar pad_value: grey level 0..255 of the letterbox border, before the normalisation.
    :ivar interpolation: of the resize: ``linear`` between the four nearest pixels, the same
        without rounding to whole grey levels (``unrounded``), or over all that a pixel of the
        input covers (``antialias``, as Pillow's BILINEAR).
    :ivar rounding: with short_side, how the sides of the picture become whole numbers and, under
        ``stretch``, multiples.
    :ivar longest_side: with short_side, what the longer side is at most; then the shorter side is
        smaller.
    :ivar pad: where the letterbox border lies, around the picture or right of and below it.
    :ivar window: what the network gets at a time where that is less than the whole picture.
    """

    name: str
    layout: Literal['NCHW', 'NHWC']
    colour: Literal['rgb', 'bgr']
    dtype: Literal['float32', 'float16', 'uint8']
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float = 1.0
    size: tuple[int, int] | None = None
    short_side: int | None = None
    multiple: int = 1
    resize: Literal['stretch', 'letterbox'] = 'stretch'
    pad_value: float = 0.0
    interpolation: Literal['linear', 'antialias', 'unrounded'] = 'linear'
    rounding: Literal['nearest', 'up', 'down'] = 'nearest'
    longest_side: int | None = None
    pad: Literal['centre', 'right_bottom'] = 'centre'
    window: Window | None = None

    def __hash__(self) -> int:
        return self._hash  # each frame looks its geometry up by it

    @cached_property
    def _hash(self) -> int:
        return hash(astuple(self))


@dataclass(frozen=True)
class OutputSpec:
    """
    One tensor that the node reads.

    :ivar kind: ``logits``, ``probabilities`` and ``scores`` have one channel a class (scores are
        at least 0, their sum means nothing: the confidence is the highest's share of it),
        ``labels`` holds class ids, ``sigmoid`` is one channel: the probability of class 1 of two.
    :ivar layout: order of the axes; NHW for labels only.
    :ivar role: which mask is made of it: the class labels (``labels``), the drivable area
        (``drivable``), or one of its own with the role's name.
    :ivar align_corners: how it is to be upsampled.
    :ivar activation: of a sigmoid, whether the tensor holds 0..1 (applied) or raw scores; None
        for the other kinds.
    :ivar threshold: of a sigmoid, from this probability on a pixel is class 1.
    :ivar temperature: of logits, the confidence is the softmax of ``logits / temperature``.
    :ivar void_channels: ascending; where one of these wins (``labels``: where this id stands) the
        mask is 255. The other channels are the classes in their order.
    """

    name: str
    kind: Literal['logits', 'probabilities', 'scores', 'labels', 'sigmoid']
    layout: Literal['NCHW', 'NHWC', 'NHW']
    role: str
    classes: ClassTable
    align_corners: bool = False
    activation: Literal['applied', 'raw'] | None = None
    threshold: float = 0.5
    temperature: float = 1.0
    void_channels: tuple[int, ...] = ()

    @property
    def by_class(self) -> bool:
        """Whether it has a channel for each class."""
        return self.kind in ('logits', 'probabilities', 'scores')

    @property
    def channels(self) -> int:
        """How many channels the tensor has."""
        return len(self.classes) + len(self.void_channels) if self.by_class else 1

    @cached_property
    def class_lut(self) -> np.ndarray | None:
        """The (256,) uint8 class of each channel, 255 = void; None: channels are ids."""
        if not (self.void_channels or self.classes.void_ids):
            return None
        lut = np.full(256, UNLABELLED, np.uint8)
        channels = [n for n in range(256) if n not in self.void_channels]
        lut[channels[:len(self.classes)]] = self.classes.ids
        lut[[channels[n] for n in self.classes.void_ids]] = UNLABELLED
        return lut


@dataclass(frozen=True)
class TensorInfo:
    """
    One input or output as the loaded model has it.

    :ivar shape: sizes; a name, None or -1 where the size is dynamic; empty where nothing is known.
    :ivar dtype: in numpy's words (``'float32'``).
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str

    @classmethod
    def from_onnx(cls, name: str, shape: Sequence[int | str | None], kind: str) -> 'TensorInfo':
        """Return the tensor ONNX Runtime describes; ``kind`` is its type, 'tensor(float)'."""
        inner = kind.removeprefix('tensor(').removesuffix(')')
        return cls(name, tuple(shape), _ONNX_TYPES.get(inner, inner))

    def __str__(self) -> str:
        sizes = ', '.join('?' if size is None else str(size) for size in self.shape)
        return f'{self.name!r} {self.dtype} [{sizes}]'

    def size_of(self, axis: str, layout: str) -> int | None:
        """Return the size along an axis (a letter of the layout), None where it is dynamic."""
        if not self.shape or axis not in layout:
            return None
        size = self.shape[layout.index(axis)]
        return size if isinstance(size, int) and size >= 0 else None


def mismatches(spec: InputSpec, outputs: Sequence[OutputSpec], model_inputs: Sequence[TensorInfo],
               model_outputs: Sequence[TensorInfo]) -> list[str]:
    """Return a sentence for everything in which a card and the model's tensors disagree."""
    return [*_input_mismatches(spec, model_inputs),
            *(line for index, output in enumerate(outputs)
              for line in _output_mismatches(f'outputs[{index}]', output, model_outputs))]


def _input_mismatches(spec: InputSpec, tensors: Sequence[TensorInfo]) -> Iterator[str]:
    others = [tensor.name for tensor in tensors if tensor.name != spec.name]
    tensor = _named(spec.name, tensors)
    if tensor is None:
        yield _unknown('input.name', spec.name, others)
        return
    if others:
        yield (f'the model wants further inputs ({", ".join(others)}), but only an image can be '
               'given. Export it with the image as its single input.')
    if tensor.dtype != spec.dtype:
        yield f"input.dtype is {spec.dtype}, the model's is {tensor.dtype}."
    if _wrong_rank(tensor, spec.layout):
        yield _rank('input', tensor, spec.layout)
        return
    wrong = _wrong_channels(tensor, spec.layout, 3)
    if wrong:
        yield f"input.layout is {spec.layout}, an image has 3 channels; the model's {wrong}"
        return
    yield from _size_mismatches(spec, tensor)


def _size_mismatches(spec: InputSpec, tensor: TensorInfo) -> Iterator[str]:
    batch = tensor.size_of('N', spec.layout)
    if batch not in (None, 1):
        yield (f'the model takes exactly {batch} images at a time. Export it with a batch of 1 or '
               'a dynamic one.')
    height, width = tensor.size_of('H', spec.layout), tensor.size_of('W', spec.layout)
    key, wanted = ('window.size', spec.window.size) if spec.window else ('size', spec.size)
    if wanted is None:
        if height is not None or width is not None:
            yield (f"input.short_side is for a dynamic input, the model's is fixed. Replace "
                   f'short_side and multiple by size: [{height or "?"}, {width or "?"}].')
        return
    if height not in (None, wanted[0]) or width not in (None, wanted[1]):
        swapped = ' It is [height, width].' if (width, height) == wanted else ''
        yield (f"input.{key} is {list(wanted)}, the model's is "
               f'[{height or "any"}, {width or "any"}].{swapped}')


def _output_mismatches(key: str, spec: OutputSpec,
                       tensors: Sequence[TensorInfo]) -> Iterator[str]:
    tensor = _named(spec.name, tensors)
    if tensor is None:
        yield _unknown(f'{key}.name', spec.name, [tensor.name for tensor in tensors])
        return
    # Ids may come as floats that hold whole numbers: each frame is checked for that.
    allowed, words = (((*_INTEGERS, 'bool', *_FLOATS, 'float64'), 'whole numbers')
                      if spec.kind == 'labels'
                      else ((*_FLOATS, 'float64'), ' or '.join(_FLOATS)))
    if tensor.dtype not in allowed:
        mend = ' With ArgMax inside it is kind: labels.' if tensor.dtype in _INTEGERS else ''
        yield (f"{key}.kind is {spec.kind}, which is {words}, the model's {spec.name!r} is "
               f'{tensor.dtype}.{mend}')
    if _lacks_an_axis(tensor, spec):
        return  # without the batch, or with the pixels in a row: nothing else can be meant
    if _wrong_rank(tensor, spec.layout):
        yield _rank(key, tensor, spec.layout) + ' Correct layout, or export it with these axes.'
        return
    wrong = _wrong_channels(tensor, spec.layout, spec.channels)
    if wrong:
        yield f"{_said_of_channels(key, spec)}; the model's {wrong}{_void_hint(spec, tensor)}"


def _said_of_channels(key: str, spec: OutputSpec) -> str:
    if not spec.by_class:
        return f'{key}.kind {spec.kind} has one channel'
    void = (f' and void_channels are {list(spec.void_channels)}' if spec.void_channels else '')
    return f'{key}.classes ({spec.classes.name}) has {len(spec.classes)} classes{void}'


def _void_hint(spec: OutputSpec, tensor: TensorInfo) -> str:
    """Return the mend for a network with a channel more than its data set has classes."""
    if not spec.by_class or tensor.size_of('C', spec.layout) != spec.channels + 1:
        return ''
    return (f' If the one too many is void, say so: void_channels: [{spec.channels}] where it is '
            'the last, [0] where it is the first.')


def _named(name: str, tensors: Sequence[TensorInfo]) -> TensorInfo | None:
    return next((tensor for tensor in tensors if tensor.name == name), None)


def _unknown(key: str, name: str, names: Sequence[str]) -> str:
    return (f'{key} is {name!r}, which the model does not have.{suggestion(name, names)} It has: '
            f'{", ".join(names)}.')


def _wrong_rank(tensor: TensorInfo, layout: str) -> bool:
    return bool(tensor.shape) and len(tensor.shape) != len(layout)


def _lacks_an_axis(tensor: TensorInfo, spec: OutputSpec) -> bool:
    """Return whether an output is the layout's but for one axis, its channels in their place."""
    if not tensor.shape or len(tensor.shape) != len(spec.layout) - 1:
        return False
    if spec.layout == 'NHW':
        return True
    # As the last axis, or as the first or (with the pixels in a row) the second.
    places = (-1,) if spec.layout == 'NHWC' else (0, 1)
    return any(tensor.shape[place] == spec.channels for place in places)


def _rank(key: str, tensor: TensorInfo, layout: str) -> str:
    return f"{key}.layout is {layout}, {len(layout)} axes; the model's is {tensor}."


def _wrong_channels(tensor: TensorInfo, layout: str, wanted: int) -> str:
    """Return what is known to be wrong with the number of channels, or an empty text."""
    channels = tensor.size_of('C', layout)
    other = 'NHWC' if layout == 'NCHW' else 'NCHW'
    # A dynamic channel axis beside a fixed one of just the right size is the layout mixed up.
    mixed_up = layout != 'NHW' and tensor.size_of('C', other) == wanted != channels
    if not mixed_up and channels in (None, wanted):
        return ''
    found = tensor.shape[layout.index('C')] or 'any number of'
    hint = f' It looks like layout: {other}.' if mixed_up else ''
    return f'{tensor.name!r} has {found} channels by layout {layout}.{hint}'
