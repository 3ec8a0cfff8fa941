"""
What a JPEG or PNG says of itself, read before anything is decoded: its size, and that it is whole.

OpenCV decodes a JPEG that was cut short to an image whose lower part is grey and only prints a
warning, and it allocates whatever size a header claims. Both must be known beforehand.
"""

from collections.abc import Callable
from struct import Struct
import zlib

import numpy as np
from numpy.typing import NDArray

from ..errors import FrameError

Bytes = NDArray[np.uint8]

# A picture has a dozen segments, a progressive one some dozens; more is not from a camera.
_MAX_SEGMENTS = 4096

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_RST = range(0xD0, 0xD8)
_ALONE = (0x01, _SOI, *_RST)  # markers that no length follows
_CHUNK, _SIZE, _UINT32 = Struct('>I4s'), Struct('>II'), Struct('>I')  # of PNG
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def inspect(data: Bytes) -> tuple[int, int]:
    """
    Return (height, width) in pixels of a JPEG or PNG file after a look at its whole structure.

    :param data: the file, 1-D uint8; bytes after its end (padding) are ignored.
    :raises FrameError: ``'format'`` for any other kind of file, ``'truncated'`` when the file
        is empty or its end is missing, ``'corrupt'`` when its structure is broken.
    """
    if not data.size:
        raise FrameError('truncated', 'the compressed image is empty (0 bytes)')
    start = data[:8].tobytes()
    for magic, read in _READERS.items():
        if start.startswith(magic):
            return read(data)
        if magic.startswith(start):
            raise FrameError('truncated', f'the compressed image has only {data.size} bytes')
    raise FrameError('format', f'the compressed image starts with {start.hex()}: neither JPEG nor '
                               'PNG; publish one of the two')


def _inspect_jpeg(data: Bytes) -> tuple[int, int]:
    at, codes = _markers(data)
    not_restart = np.flatnonzero((codes & 0xF8) != _RST[0])
    size: tuple[int, int] | None = None
    in_scan = False
    index = 1  # the first marker is the SOI
    for _ in range(_MAX_SEGMENTS):
        if in_scan:
            index = _skip_restarts(codes, index, not_restart)
        if index >= len(at):
            raise FrameError('truncated', f'the JPEG of {data.size} bytes has no end (EOI marker);'
                                          ' the camera or the network cut it short')
        code, place = int(codes[index]), int(at[index])
        if code == _EOI:
            break
        if code == _SOI:
            raise FrameError('truncated', f'a second JPEG starts at byte {place}, before the first'
                                          ' has ended')
        if code in _ALONE:
            index += 1
            continue
        if code in _SOF:
            size = _frame_size(data, place)
        in_scan = in_scan or code == _SOS
        index = int(np.searchsorted(at, place + 2 + _uint16(data, place + 2)))
    else:
        raise FrameError('corrupt', f'the JPEG has more than {_MAX_SEGMENTS} segments')
    if size is None or not in_scan:
        raise FrameError('corrupt', 'the JPEG ends without a picture (no frame header or no scan)')
    return size


def _markers(data: Bytes) -> tuple[NDArray[np.intp], Bytes]:
    """Return place and code of every marker (0xFF and a code; 0xFF00 is a data byte 0xFF)."""
    at = np.flatnonzero(data[:-1] == 0xFF)
    codes = data[at + 1]
    real = (codes != 0x00) & (codes != 0xFF)
    return at[real], codes[real]


def _skip_restarts(codes: Bytes, index: int, not_restart: NDArray[np.intp]) -> int:
    """
    Return the index of the first marker that ends the scan begun before ``index``.

    Restart markers count 0..7 round and round; a gap means that a part of the picture was lost
    on the way, which a decoder would paint over.
    """
    following = not_restart[np.searchsorted(not_restart, index):]
    end = int(following[0]) if following.size else len(codes)
    restarts = codes[index:end] - _RST[0]
    if np.any(restarts != np.arange(restarts.size) % 8):
        raise FrameError('corrupt', 'a piece is missing inside the JPEG (restart markers out of '
                                    'order)')
    return end


def _uint16(data: Bytes, place: int) -> int:
    if place + 2 > data.size:
        raise FrameError('truncated', f'the JPEG of {data.size} bytes ends inside a header')
    return int(data[place]) << 8 | int(data[place + 1])


def _frame_size(data: Bytes, place: int) -> tuple[int, int]:
    """Return (height, width) of the frame header at ``place``: FFCn, length, precision, size."""
    return _uint16(data, place + 5), _uint16(data, place + 7)


def _inspect_png(file: Bytes) -> tuple[int, int]:
    data = file.data
    place = 8
    size: tuple[int, int] | None = None
    for _ in range(_MAX_SEGMENTS):
        if place + 12 > file.size:
            raise FrameError('truncated', f'the PNG of {file.size} bytes has no end (IEND chunk); '
                                          'the camera or the network cut it short')
        length, kind = _CHUNK.unpack_from(data, place)
        end = place + 8 + length
        if end + 4 > file.size:
            raise FrameError('truncated', f'the PNG of {file.size} bytes ends inside a chunk that '
                                          f'needs {end + 4 - place} bytes at {place}')
        # libpng would notice as well, but only after printing to stderr frame by frame
        if zlib.crc32(data[place + 4:end]) != _UINT32.unpack_from(data, end)[0]:
            raise FrameError('corrupt', f'the PNG chunk at byte {place} has a wrong checksum')
        if size is None:
            if kind != b'IHDR' or length != 13:
                raise FrameError('corrupt', 'the PNG does not start with its header (IHDR chunk)')
            width, height = _SIZE.unpack_from(data, place + 8)
            size = height, width
        if kind == b'IEND':
            return size
        place = end + 4
    raise FrameError('corrupt', f'the PNG has more than {_MAX_SEGMENTS} chunks')


_READERS: dict[bytes, Callable[[Bytes], tuple[int, int]]] = {
    b'\xff\xd8\xff': _inspect_jpeg,
    b'\x89PNG\r\n\x1a\n': _inspect_png,
}
