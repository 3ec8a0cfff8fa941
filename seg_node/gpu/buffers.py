"""
Where the bytes lie that the host and the kernels exchange: camera image, coordinate tables, scores
and the result block. Pure numpy; sizes and offsets are in bytes unless something else is said.

Limits (``ConfigError``): what one kernel addresses inside one image is indexed by 32-bit integers,
so 3 x network pixels, classes x grid points and mask pixels must be below 2**31. Rows of the
camera image and images of a batch are addressed by 64 bits: ``decode``'s 2**27 pixels with any
``step`` fit.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from ..geometry import Size
from ..model.tensors import InputSpec
from .forms import Form, in_memory, LINEAR

#: Each part of a buffer begins at a multiple of this many bytes.
ALIGNMENT = 256
#: Bytes at the start of a result block for each image: 256 counts and two words of the scores'
#: range. One memset clears them for the whole batch.
COUNTERS = 1280
#: At most so many look-ups of the labels (the drivable area first).
MAX_PRODUCTS = 2

_PACKED, _YUV422, _LUMA_CHROMA = range(3)


@dataclass(frozen=True)
class Pixels:
    """Bytes from pixel to pixel, and where red, green, blue (or Y, U, V) lie in them."""

    kind: int
    stride: int
    offsets: tuple[int, int, int]


_UYVY = Pixels(_YUV422, 2, (1, 0, 2))
_YUYV = Pixels(_YUV422, 2, (0, 1, 3))
_ENCODINGS = {
    'bgr8': Pixels(_PACKED, 3, (2, 1, 0)), 'rgb8': Pixels(_PACKED, 3, (0, 1, 2)),
    'bgra8': Pixels(_PACKED, 4, (2, 1, 0)), 'rgba8': Pixels(_PACKED, 4, (0, 1, 2)),
    'mono8': Pixels(_PACKED, 1, (0, 0, 0)),
    'yuv422': _UYVY, 'uyvy': _UYVY, 'yuv422_yuy2': _YUYV, 'yuyv': _YUYV,
    'nv12': Pixels(_LUMA_CHROMA, 1, (0, 0, 1)), 'nv21': Pixels(_LUMA_CHROMA, 1, (0, 1, 0)),
}
#: What names the kernels for a type.
SUFFIXES = {'float16': 'f16', 'float32': 'f32', 'uint8': 'u8'}
#: What the kernels read themselves; everything else is decoded to bgr8 first.
ENCODINGS: tuple[str, ...] = tuple(_ENCODINGS)


@dataclass(frozen=True)
class UploadImage:
    """
    A camera image as it lies in the upload buffer.

    ``decode`` has found it sound: even sides where chroma is shared, all its bytes there.

    :ivar encoding: one of ``ENCODINGS``.
    :ivar step: bytes from row to row, of the luma and of the chroma rows.
    """

    encoding: str
    height: int
    width: int
    step: int

    def __post_init__(self) -> None:
        if self.encoding not in _ENCODINGS:
            raise ConfigError(f'the GPU kernels do not read encoding {self.encoding!r}; they read '
                              f'{", ".join(ENCODINGS)}. Decode it to bgr8 first.')
        row = self.width * _ENCODINGS[self.encoding].stride
        if not row <= self.step < 2 ** 32:
            raise ConfigError(f'step={self.step} does not fit {self.width} pixels of '
                              f'{self.encoding}; allowed are {row} to 2**32 - 1')

    @property
    def size_bytes(self) -> int:
        """Bytes that must be there; the last row may lack its padding."""
        rows = self.height * 3 // 2 if self.planar else self.height
        return (rows - 1) * self.step + self.width * self.pixels.stride

    @property
    def planar(self) -> bool:
        """Whether the colours lie in a plane of their own behind the luma, at half its size."""
        return self.pixels.kind == _LUMA_CHROMA

    @property
    def pixels(self) -> Pixels:
        """How a pixel lies in memory."""
        return _ENCODINGS[self.encoding]


@dataclass(frozen=True)
class Scores:
    """
    How the network's main output lies in memory, N images of it one after another.

    :ivar dtype: 'float16' or 'float32'.
    :ivar layout: 'NCHW' or 'NHWC'.
    :ivar size: of the grid of one image.
    :ivar softmax: whether these are logits, whose softmax is the confidence; else the values
        themselves are (``probabilities``).
    :ivar temperature: the confidence is the softmax of logits / temperature.
    :ivar form: in which a tensor of axes NCHW lies in memory.
    """

    dtype: str
    layout: str
    classes: int
    size: Size
    softmax: bool = True
    temperature: float = 1.0
    form: Form = LINEAR

    def __post_init__(self) -> None:
        if self.dtype not in ('float16', 'float32') or self.layout not in ('NCHW', 'NHWC'):
            raise ConfigError(f'scores of type {self.dtype} in layout {self.layout} cannot be '
                              'labelled on the GPU; allowed are float16 and float32, NCHW and '
                              'NHWC. Use backend: onnxruntime.')
        if not 1 <= self.classes <= 256:
            raise ConfigError(f'{self.classes} classes cannot be labelled on the GPU; allowed are '
                              '1 to 256. Use backend: onnxruntime.')
        check_count('score grid', self.elements)

    @property
    def points(self) -> int:
        """Grid points of one image."""
        return self.size.height * self.size.width

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's scores."""
        return self.elements * np.dtype(self.dtype).itemsize

    @property
    def elements(self) -> int:
        """Elements of one image's scores."""
        return in_memory(self.layout, self.form).elements(self.classes, self.size)

    @property
    def winner_bytes(self) -> int:
        """Bytes of one image in the ``winners`` buffer."""
        return self.points

    @property
    def sum_bytes(self) -> int:
        """Bytes of one image in the ``sums`` buffer, needed for the confidence of logits."""
        return 8 * self.points

    @property
    def entropy_bytes(self) -> int:
        """Bytes of one image in the ``entropies`` buffer."""
        return 4 * self.points

    @property
    def strides(self) -> tuple[int, int, int]:
        """Elements from class to class, row to row, point to point."""
        form = in_memory(self.layout, self.form)
        point = form.pixel(self.classes)
        return form.channel(1, self.size), self.size.width * point, point

    @property
    def suffix(self) -> str:
        """What names the kernels for this type."""
        return SUFFIXES[self.dtype]


@dataclass(frozen=True)
class ScoreRange:
    """
    What the kernels saw in one frame's scores.

    :ivar finite: none is NaN or infinite; if one is, all labels are 255.
    :ivar low: the lowest score, or 0 if none is below 0.
    :ivar high: the highest score, or 0 if none is above 0.
    """

    finite: bool
    low: float
    high: float


@dataclass(frozen=True)
class Parts:
    """
    One camera's part of a downloaded result block: views, valid until the block is reused.

    :ivar labels: (H, W) uint8.
    :ivar confidence: (H, W) uint8 or None.
    :ivar entropy: (H, W) uint8 or None.
    :ivar products: (H, W) uint8 for each look-up.
    :ivar histogram: (256,) uint32, pixels of each class, or None.
    """

    labels: np.ndarray
    confidence: np.ndarray | None
    products: tuple[np.ndarray, ...]
    histogram: np.ndarray | None
    range: ScoreRange
    entropy: np.ndarray | None = None


@dataclass(frozen=True)
class ResultBlock:
    """
    Where everything lies in the result block of a batch, downloaded at once.

    First ``COUNTERS`` bytes for each camera (histogram, range of the scores), which must be 0
    before the kernels run: ``memset(result, 0, layout.zero_bytes)``. Then each camera's labels,
    confidence, products and entropy.

    :ivar outputs: size of each camera's mask.
    :ivar entropy: needs the confidence.
    :ivar products: how many look-ups each has.
    """

    outputs: tuple[Size, ...]
    confidence: bool = False
    products: int = 0
    histogram: bool = False
    entropy: bool = False

    def __post_init__(self) -> None:
        if self.entropy and not self.confidence:
            raise ConfigError('a result with the entropy, but without the confidence: ask for '
                              'both')
        if not self.outputs or not 0 <= self.products <= MAX_PRODUCTS:
            raise ConfigError(f'a result of {len(self.outputs)} masks with {self.products} '
                              f'look-ups; allowed are 1 or more with 0 to {MAX_PRODUCTS}')
        for output in self.outputs:
            check_count('mask', output.height * output.width)

    @property
    def zero_bytes(self) -> int:
        """Bytes at the start that must be 0 before the kernels run."""
        return COUNTERS * len(self.outputs)

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole block."""
        return self._start(len(self.outputs))

    def histogram_at(self, index: int) -> int:
        """Return the offset of a camera's 256 uint32 counts."""
        return COUNTERS * index

    def range_at(self, index: int) -> int:
        """Return the offset of the two uint32 words of a camera's ``ScoreRange``."""
        return COUNTERS * index + 1024

    def labels_at(self, index: int) -> int:
        """Return the offset of a camera's labels."""
        return self._start(index)

    def confidence_at(self, index: int) -> int:
        """Return the offset of a camera's confidence."""
        return self._start(index) + self._plane(index)

    def product_at(self, index: int, product: int) -> int:
        """Return the offset of a camera's look-up."""
        return self._start(index) + (1 + self.confidence + product) * self._plane(index)

    def entropy_at(self, index: int) -> int:
        """Return the offset of a camera's entropy."""
        return self.product_at(index, self.products)

    def parts(self, block: np.ndarray, index: int) -> Parts:
        """Return a camera's part of a downloaded block, (size_bytes,) uint8."""
        shape = self.outputs[index]

        def plane(start: int) -> np.ndarray:
            return block[start:start + shape.height * shape.width].reshape(shape)

        start = self.histogram_at(index)
        words = block[start:start + COUNTERS].view(np.uint32)
        return Parts(plane(self.labels_at(index)),
                     plane(self.confidence_at(index)) if self.confidence else None,
                     tuple(plane(self.product_at(index, n)) for n in range(self.products)),
                     words[:256] if self.histogram else None, _score_range(words[256:258]),
                     plane(self.entropy_at(index)) if self.entropy else None)

    def _plane(self, index: int) -> int:
        return aligned(self.outputs[index].height * self.outputs[index].width)

    def _start(self, index: int) -> int:
        planes = 1 + self.confidence + self.products + self.entropy
        return self.zero_bytes + planes * sum(self._plane(n) for n in range(index))


def aligned(size: int) -> int:
    """Return a size in bytes rounded up to where the next part may begin."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def input_bytes(spec: InputSpec, network: Size, form: Form = LINEAR) -> int:
    """Return the bytes of one image's part of the network's input."""
    return (in_memory(spec.layout, form).elements(3, network) * np.dtype(spec.dtype).itemsize)


def check_count(what: str, count: int) -> None:
    """Refuse an image that 32-bit indices cannot address."""
    if not 1 <= count < 2 ** 31:
        raise ConfigError(f'the {what} has {count} values in one image; allowed on the GPU are 1 '
                          f'to {2 ** 31 - 1}: choose a smaller size')


def _score_range(words: np.ndarray) -> ScoreRange:
    """Read the two words: the greatest magnitude of the scores above and below 0."""
    finite = bool(words.max() < 0x7f800000)
    high, below = (float(value) for value in words.view(np.float32))
    return ScoreRange(finite, -below, high)
