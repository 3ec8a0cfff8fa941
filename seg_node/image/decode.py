"""
From a received image message to the (height, width, 3) uint8 BGR array everything else works on.

One table says how each encoding of ``sensor_msgs/image_encodings.hpp`` lies in memory and which
OpenCV conversion makes BGR of it. What is not in the table, or does not lie as the message says,
is refused. Nothing here holds state: any thread may decode.
"""

from collections.abc import Callable
from dataclasses import dataclass
import re
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import FrameError
from .compressed import inspect_png, JPEG, kind_of
from .jpeg import read_structure
from .jpeg_decode import decode_jpeg
from .wire import CompressedImageMessage, ImageMessage

MAX_SIDE = 16384
#: What the decoders are good for, and what a frame may have unless its node says otherwise: 4096
#: x 4096, which no camera of a car exceeds.
MAX_PIXELS, USUAL_PIXELS = 2 ** 27, 2 ** 24

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Plane:
    """``channels`` values at every ``subsampling``-th pixel of every ``subsampling``-th row."""

    channels: int
    subsampling: int = 1


@dataclass(frozen=True, slots=True)
class _Encoding:
    """
    How an encoding lies in memory and what makes BGR of it.

    ``planes`` follow one another, the rows of each ``step`` bytes apart, or as many times
    ``step`` as its rows are longer than those of the first plane (V4L2's rule, e.g. for NV24).
    ``to_bgr`` gets each as (rows, columns, channels) uint8, or uint16 for a ``depth`` of 2 bytes.
    ``multiple``: (height, width) must be divisible by it; ``least``: shortest side in pixels.
    ``grey``: the channel of the first plane that is green or luma, of a mosaic the only one.
    """

    planes: tuple[_Plane, ...]
    to_bgr: Callable[..., Image]
    depth: int = 1
    multiple: tuple[int, int] = (1, 1)
    least: int = 1
    grey: int = 0


def _as_is(pixels: Image) -> Image:
    return pixels


def _convert(code: int) -> Callable[..., Image]:
    """Return the conversion of one plane by an OpenCV colour code."""
    def to_bgr(pixels: Image) -> Image:
        return cv2.cvtColor(pixels, code)
    return to_bgr


def _convert_planes(code: int) -> Callable[..., Image]:
    """Return the conversion of luma and half-resolution chroma by an OpenCV colour code."""
    def to_bgr(luma: Image, chroma: Image) -> Image:
        return cv2.cvtColorTwoPlane(luma, chroma, code)
    return to_bgr


# BT.601, limited range, as OpenCV's other YUV conversions: rows give B, G, R of (Y, U, V, 1).
_BT601 = np.array([[1.164, 2.018, 0.0],
                   [1.164, -0.391, -0.813],
                   [1.164, 0.0, 1.596]])
_BT601_AFFINE = np.column_stack([_BT601, _BT601 @ [-16, -128, -128]]).astype(np.float32)


def _nv24_to_bgr(luma: Image, chroma: Image) -> Image:
    # OpenCV has no full-resolution chroma; like its kernels, luma below black counts as black
    yuv = cv2.merge([np.maximum(luma, 16), chroma])
    return cv2.transform(yuv, _BT601_AFFINE)


def _packed(channels: int, to_bgr: Callable[..., Image], depth: int = 1) -> _Encoding:
    return _Encoding((_Plane(channels),), to_bgr, depth, grey=min(channels - 1, 1))


def _bayer(code: int, depth: int) -> _Encoding:
    # OpenCV paints a mosaic with a side below 3 pixels black
    return _Encoding((_Plane(1),), _convert(code), depth, least=3)


_GREY = _convert(cv2.COLOR_GRAY2BGR)
_RGB = _convert(cv2.COLOR_RGB2BGR)
_BGRA = _convert(cv2.COLOR_BGRA2BGR)
_RGBA = _convert(cv2.COLOR_RGBA2BGR)
_UYVY = _Encoding((_Plane(2),), _convert(cv2.COLOR_YUV2BGR_UYVY), multiple=(1, 2), grey=1)
_YUY2 = _Encoding((_Plane(2),), _convert(cv2.COLOR_YUV2BGR_YUY2), multiple=(1, 2))
_LUMA_HALF_CHROMA = (_Plane(1), _Plane(2, subsampling=2))

# ROS names a mosaic by its first two pixels of the first two rows, OpenCV by the second two.
_BAYER = {'rggb': cv2.COLOR_BayerBG2BGR, 'bggr': cv2.COLOR_BayerRG2BGR,
          'gbrg': cv2.COLOR_BayerGR2BGR, 'grbg': cv2.COLOR_BayerGB2BGR}

_ENCODINGS: dict[str, _Encoding] = {
    'bgr8': _packed(3, _as_is), 'bgr16': _packed(3, _as_is, 2),
    'rgb8': _packed(3, _RGB), 'rgb16': _packed(3, _RGB, 2),
    'bgra8': _packed(4, _BGRA), 'bgra16': _packed(4, _BGRA, 2),
    'rgba8': _packed(4, _RGBA), 'rgba16': _packed(4, _RGBA, 2),
    'mono8': _packed(1, _GREY), 'mono16': _packed(1, _GREY, 2),
    **{f'bayer_{name}{8 * depth}': _bayer(code, depth)
       for name, code in _BAYER.items() for depth in (1, 2)},
    'yuv422': _UYVY, 'uyvy': _UYVY,
    'yuv422_yuy2': _YUY2, 'yuyv': _YUY2,
    'nv12': _Encoding(_LUMA_HALF_CHROMA, _convert_planes(cv2.COLOR_YUV2BGR_NV12),
                      multiple=(2, 2)),
    'nv21': _Encoding(_LUMA_HALF_CHROMA, _convert_planes(cv2.COLOR_YUV2BGR_NV21),
                      multiple=(2, 2)),
    'nv24': _Encoding((_Plane(1), _Plane(2)), _nv24_to_bgr),
}
ENCODINGS: tuple[str, ...] = tuple(_ENCODINGS)

_TYPE_NAME = re.compile(r'(8|16|32|64)[USF](C\d{0,3})?')
_NOT_COLOUR = re.compile(r'(16|32|64)[USF](C\d*)?|bayer_.*')


def decode(message: ImageMessage | CompressedImageMessage,
           max_pixels: int = USUAL_PIXELS) -> Image:
    """
    Return the picture of a message as (height, width, 3) uint8, BGR.

    Convention: the grid is the sensor's, an EXIF orientation is ignored. 16-bit channels are
    scaled by 255 / 65535 and rounded, as cv_bridge does it. Grey gives three equal channels, alpha
    is dropped, YUV is BT.601 limited range. Of ``bgr8`` the result is a read-only view of the
    message with the message's row stride; of everything else a new packed array.

    :param max_pixels: larger pictures are refused by their header, before anything is decoded.
    :raises FrameError: reason ``'encoding'`` (unknown, or colours not told), ``'size'``,
        ``'step'``, ``'truncated'``, ``'format'`` (neither JPEG nor PNG) or ``'corrupt'``.
    """
    if isinstance(message, CompressedImageMessage):
        return _decode_compressed(message, max_pixels)
    image = _lookup(message.encoding).to_bgr(*planes(message, max_pixels))
    return image if image.dtype == np.uint8 else _to_8_bit(image)


def _to_8_bit(image: NDArray[Any]) -> Image:
    """Scale by 255 / 65535 and round, after the change of colours, as cv_bridge does."""
    return cv2.convertScaleAbs(image, alpha=255 / 65535)


def planes(message: ImageMessage, max_pixels: int = USUAL_PIXELS) -> list[Image]:
    """
    Return the planes of a raw image, each (rows, columns, channels) uint8 or uint16, as they lie.

    :raises FrameError: as ``decode`` does.
    """
    encoding = _lookup(message.encoding)
    check_size(message.height, message.width, max_pixels)
    _check_fit(message, encoding)
    return _planes(message, encoding)


def grey_plane(message: ImageMessage, max_pixels: int = USUAL_PIXELS) -> Image | None:
    """
    Return the green or luma of a raw image as it lies, (height, width) uint8, without decoding.

    Of a mosaic these are its pixels, whatever their colours.

    :returns: a view of the message; None for 16-bit channels, which have none.
    :raises FrameError: as ``decode`` does.
    """
    encoding = _lookup(message.encoding)
    return planes(message, max_pixels)[0][..., encoding.grey] if encoding.depth == 1 else None


def _lookup(name: str) -> _Encoding:
    known = _ENCODINGS.get(name)
    if known is not None:
        return known
    if _TYPE_NAME.fullmatch(name):
        raise FrameError('encoding', f'encoding {name!r} tells the type of the channels but not '
                                     'their colours; publish bgr8 or rgb8')
    raise FrameError('encoding', f'encoding {name[:40]!r} is unknown; allowed are '
                                 f'{", ".join(ENCODINGS)}')


def check_size(height: int, width: int, max_pixels: int = USUAL_PIXELS) -> None:
    """Refuse an image that is empty or too large (FrameError ``size``)."""
    if height < 1 or width < 1:
        raise FrameError('size', f'the image is {width} x {height} pixels: empty')
    if max(height, width) > MAX_SIDE or height * width > max_pixels:
        raise FrameError('size', f'the image is {width} x {height} = {width * height} pixels; '
                                 f'allowed are sides up to {MAX_SIDE} and {max_pixels} pixels in '
                                 'all: publish smaller pictures, or raise max_pixels')


def _check_fit(message: ImageMessage, encoding: _Encoding) -> None:
    """Refuse sizes this encoding cannot have."""
    height, width = message.height, message.width
    rows, columns = encoding.multiple
    if height % rows or width % columns:
        raise FrameError('size', f'{message.encoding} shares colour between pixels and needs an '
                                 f'even {"width" if rows == 1 else "width and height"}, not '
                                 f'{width} x {height}')
    if min(height, width) < encoding.least:
        raise FrameError('size', f'{message.encoding} needs {encoding.least} x {encoding.least} '
                                 f'pixels or more to find colours, not {width} x {height}')


def _planes(message: ImageMessage, encoding: _Encoding) -> list[Image]:
    """Return each plane as (rows, columns, channels): views, of 16-bit data new arrays."""
    height, width, depth = message.height, message.width, encoding.depth
    shapes = [(height // p.subsampling, width // p.subsampling, p.channels)
              for p in encoding.planes]
    lengths = [columns * channels * depth for _, columns, channels in shapes]
    step = _step(message, lengths[0], sum(s[0] * n for s, n in zip(shapes, lengths, strict=True)))
    planes, start = [], 0
    for (rows, columns, channels), length in zip(shapes, lengths, strict=True):
        stride = step * length // lengths[0]
        end = start + stride * (rows - 1) + length  # the last row may lack its padding
        if end > message.data.size:
            raise _truncated(message, end)
        kind = 'u1' if depth == 1 else '>u2' if message.is_bigendian else '<u2'
        plane: Image = np.ndarray((rows, columns * channels), kind, message.data.data, start,
                                  (stride, depth))
        if depth > 1:
            plane = np.ascontiguousarray(plane, np.uint16)
        planes.append(plane.reshape(rows, columns, channels))
        start += stride * rows
    return planes


def _step(message: ImageMessage, row: int, packed: int) -> int:
    """
    Return the distance of the rows of the first plane in bytes.

    By the common convention the ``height`` of a planar image is the picture's and ``step`` is
    the length of a luma row. Some drivers write (all bytes) / height instead: told from the
    convention by the length of the data, which is then exactly that of packed planes.
    """
    if message.step < row:
        raise FrameError('step', f'step={message.step} is shorter than a row of {message.width} '
                                 f'pixels of {message.encoding}: {row} bytes')
    if packed == message.data.size == message.step * message.height:
        return row
    return message.step


def _truncated(message: ImageMessage, needed: int) -> FrameError:
    text = (f'{message.width} x {message.height} {message.encoding} with step={message.step} '
            f'needs {needed} bytes, the message has {message.data.size}')
    if len(_ENCODINGS[message.encoding].planes) > 1:
        text += '; height must be that of the picture, without the rows of the colour plane'
    return FrameError('truncated', text)


def _check_format(text: str) -> None:
    """
    Refuse formats that say the pixels are depths or a mosaic; what else they are, the data says.

    The pattern is ``ORIGINAL; CODEC compressed CODED_AS`` or just the codec; drivers write all
    kinds of things there.
    """
    original, _, rest = text.partition(';')
    coded_as = rest.rpartition('compressed')[2].strip()
    if ('compresseddepth' in text.lower()
            or not coded_as and _NOT_COLOUR.fullmatch(original.strip())):
        raise FrameError('format', f'compressed image format {text[:60]!r} holds raw '
                                   f'{original[:20]}, not a colour or grey picture; publish bgr8 '
                                   'or rgb8')


def _decode_compressed(message: CompressedImageMessage, max_pixels: int) -> Image:
    _check_format(message.format)
    if kind_of(message.data) == JPEG:
        jpeg = read_structure(message.data)
        check_size(jpeg.height, jpeg.width, max_pixels)
        jpeg.check_amount()
        return decode_jpeg(jpeg)
    return _decode_png(message.data, max_pixels)


def _decode_png(data: NDArray[np.uint8], max_pixels: int) -> Image:
    height, width = inspect_png(data)
    check_size(height, width, max_pixels)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
                             | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise FrameError('corrupt', f'the PNG has errors: {error.err}') from None
    if image is None or image.shape != (height, width, 3):
        got = 'nothing' if image is None else f'an array {image.shape}'
        raise FrameError('corrupt', f'the PNG of {width} x {height} pixels decodes to {got}')
    return _to_8_bit(image) if image.dtype == np.uint16 else image
