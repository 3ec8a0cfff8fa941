"""
The bytes of image messages as ROS 2 puts them on the wire (CDR), parsed and built by hand.

Generated message classes copy every pixel at least once on the way in and once on the way out.
Here the pixels of a received message stay a view into its bytes, and a message to be published
costs one copy. Plain CDR (XCDR1) of both byte orders is read; little endian is written.
"""

from dataclasses import dataclass
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from ..errors import FrameError

# CDR aligns to the byte after these four (representation id, options).
_ENCAPSULATION = 4
_BIG_ENDIAN, _LITTLE_ENDIAN = b'\x00\x00', b'\x00\x01'
# Middlewares round a payload up to a multiple of four bytes.
_MAX_TRAILING = 3

_STAMP = {'<': Struct('<iI'), '>': Struct('>iI')}
_UINT32 = {'<': Struct('<I'), '>': Struct('>I')}
_SIZE = {'<': Struct('<II'), '>': Struct('>II')}


@dataclass(frozen=True, slots=True)
class Header:
    """``std_msgs/Header``: acquisition time (``sec`` s + ``nanosec`` ns) and optical frame."""

    sec: int
    nanosec: int
    frame_id: str

    @property
    def stamp_ns(self) -> int:
        """Acquisition time in nanoseconds since the epoch of the clock that made it."""
        return self.sec * 1_000_000_000 + self.nanosec


@dataclass(slots=True, eq=False)
class ImageMessage:
    """
    ``sensor_msgs/Image``; nothing but the layout of the message has been checked.

    ``height`` and ``width`` are in pixels, ``step`` is the length of a row in bytes, ``data`` is
    a read-only 1-D uint8 view into the received bytes, which it keeps alive.
    """

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: bool
    step: int
    data: NDArray[np.uint8]


@dataclass(slots=True, eq=False)
class CompressedImageMessage:
    """``sensor_msgs/CompressedImage``; ``data`` is a read-only 1-D uint8 view."""

    header: Header
    format: str
    data: NDArray[np.uint8]


class _Reader:
    """A position in a CDR stream; every read past the end or against the rules is refused."""

    __slots__ = ('_cdr', '_end', '_order', '_pos', '_uint32')

    def __init__(self, cdr: bytes) -> None:
        kind = bytes(cdr[:2])
        if len(cdr) < _ENCAPSULATION or kind not in (_BIG_ENDIAN, _LITTLE_ENDIAN):
            raise _malformed(f'starts with {bytes(cdr[:_ENCAPSULATION]).hex() or "nothing"}, not '
                             'with a plain CDR header (00000000 or 00010000)')
        self._cdr = cdr
        self._end = len(cdr)
        self._order = '<' if kind == _LITTLE_ENDIAN else '>'
        self._uint32 = _UINT32[self._order]
        self._pos = _ENCAPSULATION

    def _take(self, count: int, what: str) -> int:
        """Return where the next ``count`` bytes start and move behind them."""
        start = self._pos
        if count > self._end - start:
            raise _malformed(f'{what} needs {count} bytes at offset {start}, the message ends '
                             f'after {self._end}')
        self._pos = start + count
        return start

    def _align4(self) -> None:
        self._pos = (self._pos + 3) & ~3  # the encapsulation is four bytes: no offset needed

    def header(self) -> Header:
        start = self._take(8, 'header.stamp')
        sec, nanosec = _STAMP[self._order].unpack_from(self._cdr, start)
        return Header(sec, nanosec, self.string('header.frame_id'))

    def uint8(self, what: str) -> int:
        return self._cdr[self._take(1, what)]

    def uint32(self, what: str) -> int:
        self._align4()
        value: int = self._uint32.unpack_from(self._cdr, self._take(4, what))[0]
        return value

    def size(self) -> tuple[int, int]:
        self._align4()
        height, width = _SIZE[self._order].unpack_from(self._cdr, self._take(8, 'height, width'))
        return height, width

    def string(self, what: str) -> str:
        length = self.uint32(f'the length of {what}')
        if not length:  # not by the standard, but some writers send '' like this
            return ''
        start = self._take(length, what)
        raw = bytes(self._cdr[start:start + length])
        if raw.find(b'\0') != length - 1:
            raise _malformed(f'{what} is not a string that ends with its only NUL')
        try:
            return raw[:-1].decode()
        except UnicodeDecodeError as error:
            raise _malformed(f'{what} is not UTF-8: {error.reason}') from None

    def pixels(self) -> NDArray[np.uint8]:
        """Return the last field, a sequence of uint8, as a view; nothing may follow it."""
        length = self.uint32('the length of data')
        start = self._take(length, 'data')
        if self._end - self._pos > _MAX_TRAILING:
            raise _malformed(f'{self._end - self._pos} bytes follow its end')
        return np.frombuffer(self._cdr, np.uint8, length, start)


def _malformed(what: str) -> FrameError:
    return FrameError('malformed', f'not a valid image message: {what}. Check the message type '
                                   'of the topic.')


def parse_image(cdr: bytes) -> ImageMessage:
    """
    Read a serialized ``sensor_msgs/Image`` without copying its pixels.

    :param cdr: what a raw subscription delivers, encapsulation included.
    :raises FrameError: reason ``'malformed'`` on any byte string that is not such a message.
    """
    reader = _Reader(cdr)
    header = reader.header()
    height, width = reader.size()
    encoding = reader.string('encoding')
    is_bigendian = reader.uint8('is_bigendian') != 0
    step = reader.uint32('step')
    return ImageMessage(header, height, width, encoding, is_bigendian, step, reader.pixels())


def parse_compressed_image(cdr: bytes) -> CompressedImageMessage:
    """
    Read a serialized ``sensor_msgs/CompressedImage`` without copying its data.

    :param cdr: what a raw subscription delivers, encapsulation included.
    :raises FrameError: reason ``'malformed'`` on any byte string that is not such a message.
    """
    reader = _Reader(cdr)
    return CompressedImageMessage(reader.header(), reader.string('format'), reader.pixels())


def _string(text: str) -> bytes:
    raw = text.encode() + b'\0'
    if raw.find(b'\0') != len(raw) - 1:
        raise ValueError(f'{text!r} holds a NUL, which a ROS string cannot carry')
    return _UINT32['<'].pack(len(raw)) + raw


def _padding(length: int) -> bytes:
    return bytes(-length % 4)


def _start(header: Header) -> bytes:
    """Return encapsulation, header and the padding behind it."""
    raw = (_LITTLE_ENDIAN + b'\0\0' + _STAMP['<'].pack(header.sec, header.nanosec)
           + _string(header.frame_id))
    return raw + _padding(len(raw))


def _join(head: bytes, data: memoryview) -> bytes:
    # join is the one way to `bytes` (which publish() insists on) with a single copy
    return b''.join((head, _padding(len(head)), _UINT32['<'].pack(data.nbytes), data))


def _row_bytes(array: NDArray[np.uint8], height: int, width: int) -> int:
    """Return the length of a row of an (H, W) or (H, W, C) array that fits the message."""
    if array.ndim not in (2, 3) or array.shape[:2] != (height, width):
        raise ValueError(f'an array of shape {array.shape} is not an image of {height} x {width} '
                         'pixels; give (height, width) or (height, width, channels), or 1-D '
                         'bytes with their step')
    return width * (array.shape[2] if array.ndim == 3 else 1)


def build_image(header: Header, height: int, width: int, encoding: str,
                data: NDArray[np.uint8] | bytes | bytearray | memoryview, *,
                step: int | None = None, is_bigendian: bool = False) -> bytes:
    """
    Serialize a ``sensor_msgs/Image``, as ``publisher.publish`` takes it; one copy of the pixels.

    :param height, width: size in pixels.
    :param data: C-contiguous uint8 array (height, width) or (height, width, channels); or the
        raw bytes, 1-D, of an image of any layout (then ``step`` is required).
    :param step: length of a row in bytes; of an image array it is known.
    :param is_bigendian: byte order of channels wider than a byte.
    :raises ValueError: the array is not contiguous, not uint8 or of another size; ``step`` is
        missing or contradicts the array.
    """
    view = _flat(data)
    if isinstance(data, np.ndarray) and data.ndim != 1:
        row = _row_bytes(data, height, width)
        if step not in (None, row):
            raise ValueError(f'step={step} contradicts the array, whose rows have {row} bytes')
        step = row
    elif step is None:
        raise ValueError('the layout of raw bytes is unknown; give their step')
    size = _SIZE['<'].pack(height, width) + _string(encoding) + bytes([is_bigendian])
    head = _start(header) + size
    return _join(head + _padding(len(head)) + _UINT32['<'].pack(step), view)


def build_compressed_image(header: Header, format: str,  # noqa: A002 (the field's name)
                           data: NDArray[np.uint8] | bytes | bytearray | memoryview) -> bytes:
    """
    Serialize a ``sensor_msgs/CompressedImage``, as ``publisher.publish`` takes it.

    :param format: e.g. ``'mono8; png compressed mono8'`` or ``'jpeg'``.
    :param data: the JPEG or PNG file; an array must be C-contiguous uint8.
    :raises ValueError: the array is not contiguous or not uint8.
    """
    return _join(_start(header) + _string(format), _flat(data))


def _flat(data: NDArray[np.uint8] | bytes | bytearray | memoryview) -> memoryview:
    """Return ``data`` as flat bytes without a copy."""
    if isinstance(data, np.ndarray):
        if data.dtype != np.uint8 or not data.flags.c_contiguous:
            kind = 'contiguous' if data.flags.c_contiguous else 'not contiguous'
            raise ValueError(f'the array is {data.dtype} and {kind}; give a C-contiguous uint8 '
                             'array (numpy.ascontiguousarray)')
        return data.reshape(-1).data
    view = memoryview(data)
    if not view.c_contiguous:
        raise ValueError('the memoryview is not contiguous; give contiguous bytes')
    return view.cast('B')
