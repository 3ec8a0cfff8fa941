"""A model's tensors: as a card describes them, as the file has them, and whether both agree."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .schema import suggestion
from .taxonomy import ClassTable

_FLOATS = ('float32', 'float16')
_INTEGERS = ('int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64')
_ONNX_TYPES = {'float': 'float32', 'double': 'float64'}


@dataclass(frozen=True)
class InputSpec:
    """
    How an image becomes the network's input.

    Convention: ``x_net = (x * scale - mean) / std`` with x the pixel value 0..255; mean and std
    are in the network's channel order. Sizes are (height, width) in pixels. Exactly one of
    ``size`` (fixed input) and ``short_side`` (dynamic input) is set.

    :ivar multiple: with short_side, both sides of the input are multiples of this.
    :ivar pad_value: grey level 0..255 of the letterbox border, before the normalisation.
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


@dataclass(frozen=True)
class OutputSpec:
    """
    One tensor that the node reads.

    :ivar kind: ``logits`` and ``probabilities`` have one channel a class, ``labels`` holds class
        ids, ``sigmoid`` is one channel: the probability of class 1 of two.
    :ivar layout: order of the axes; NHW for labels only.
    :ivar role: which mask is made of it, the class labels or the drivable area.
    :ivar align_corners: how it is to be upsampled.
    :ivar activation: of a sigmoid, whether the tensor holds 0..1 (applied) or raw scores; None
        for the other kinds.
    :ivar threshold: of a sigmoid, from this probability on a pixel is class 1.
    :ivar temperature: of logits, the confidence is the softmax of ``logits / temperature``.
    """

    name: str
    kind: Literal['logits', 'probabilities', 'labels', 'sigmoid']
    layout: Literal['NCHW', 'NHWC', 'NHW']
    role: Literal['labels', 'drivable']
    classes: ClassTable
    align_corners: bool = False
    activation: Literal['applied', 'raw'] | None = None
    threshold: float = 0.5
    temperature: float = 1.0


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
    if spec.size is None:
        if height is not None or width is not None:
            yield (f"input.short_side is for a dynamic input, the model's is fixed. Replace "
                   f'short_side and multiple by size: [{height or "?"}, {width or "?"}].')
        return
    if height not in (None, spec.size[0]) or width not in (None, spec.size[1]):
        swapped = ' It is [height, width].' if (width, height) == spec.size else ''
        yield (f"input.size is {list(spec.size)}, the model's is "
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
    if _wrong_rank(tensor, spec.layout):
        mend = (' Export it with the batch as its first axis (unsqueeze(0)), or correct layout.'
                if len(tensor.shape) == len(spec.layout) - 1 else ' Correct layout, or export it '
                'with these axes.')
        yield _rank(key, tensor, spec.layout) + mend
        return
    by_class = spec.kind in ('logits', 'probabilities')
    wanted = len(spec.classes) if by_class else 1
    wrong = _wrong_channels(tensor, spec.layout, wanted)
    if wrong:
        said = (f'{key}.classes ({spec.classes.name}) has {wanted} classes' if by_class
                else f'{key}.kind {spec.kind} has one channel')
        yield f"{said}; the model's {wrong}"


def _named(name: str, tensors: Sequence[TensorInfo]) -> TensorInfo | None:
    return next((tensor for tensor in tensors if tensor.name == name), None)


def _unknown(key: str, name: str, names: Sequence[str]) -> str:
    return (f'{key} is {name!r}, which the model does not have.{suggestion(name, names)} It has: '
            f'{", ".join(names)}.')


def _wrong_rank(tensor: TensorInfo, layout: str) -> bool:
    return bool(tensor.shape) and len(tensor.shape) != len(layout)


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
