"""
What a JPEG or PNG says of itself, read before anything is decoded: its size, and that it is whole.

Decoders paint what is missing grey and allocate whatever size a header claims. Both must be known
beforehand.
"""

from struct import Struct
import zlib

import numpy as np
from numpy.typing import NDArray

from ..errors import FrameError
from .jpeg import read_structure

Bytes = NDArray[np.uint8]

JPEG, PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'  # how they begin

_MAX_CHUNKS = 65536  # writers with pieces of 8 kB fill some thousands
_CHUNK, _SIZE, _UINT32 = Struct('>I4s'), Struct('>II'), Struct('>I')


def inspect(data: Bytes) -> tuple[int, int]:
    """
    Return (height, width) in pixels of a JPEG or PNG file after a look at its whole structure.

    :param data: the file, 1-D uint8; bytes after its end (padding) are ignored.
    :raises FrameError: ``'format'`` for any other kind of file, ``'truncated'`` when the file
        is empty or its end is missing, ``'corrupt'`` when its structure is broken.
    """
    if kind_of(data) == PNG:
        return inspect_png(data)
    jpeg = read_structure(data)
    return jpeg.height, jpeg.width


def kind_of(data: Bytes) -> bytes:
    """
    Return ``JPEG`` or ``PNG``, as the first bytes say.

    :raises FrameError: ``'format'`` for any other kind of file, ``'truncated'`` when it has too
        few bytes to tell.
    """
    if not data.size:
        raise FrameError('truncated', 'the compressed image is empty (0 bytes)')
    start = data[:8].tobytes()
    for magic in (JPEG, PNG):
        if start.startswith(magic):
            return magic
        if magic.startswith(start):
            raise FrameError('truncated', f'the compressed image has only {data.size} bytes')
    raise FrameError('format', f'the compressed image starts with {start.hex()}: neither JPEG nor '
                               'PNG; publish one of the two')


def inspect_png(file: Bytes) -> tuple[int, int]:
    """
    Return (height, width) in pixels of a PNG whose chunks are all there, with right checksums.

    :raises FrameError: as ``inspect`` does.
    """
    data = file.data
    place = 8
    size: tuple[int, int] | None = None
    for _ in range(_MAX_CHUNKS):
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
    raise FrameError('corrupt', f'the PNG has more than {_MAX_CHUNKS} chunks')
