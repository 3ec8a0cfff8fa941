"""Label pictures of data sets: the ids a PNG holds, be it grey or with a palette."""

from pathlib import Path
from struct import Struct
import zlib

import cv2
import numpy as np

from ..errors import ConfigError, FrameError
from ..image.compressed import inspect
from ..image.decode import check_size, MAX_PIXELS

_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_CHUNK, _UINT32 = Struct('>I4s'), Struct('>I')
_DEPTH_AT, _COLOUR_AT = 24, 25  # in the file; both in IHDR, which is the first chunk
_GREY, _PALETTE = 0, 3
_MEND = 'Every image needs a whole label: mend or replace the file.'


def read_ids(path: Path) -> np.ndarray:
    """
    Return the ids that a label PNG holds, (H, W) uint8, or uint16 for one of 16 bit.

    :raises ConfigError: when the file cannot be read, is damaged, or is no PNG with one channel.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error.strerror}. {_MEND}') from error
    if data and not data.startswith(_SIGNATURE):
        raise ConfigError(f'{path} is no PNG (it starts with {data[:8].hex()}). Labels must be '
                          'PNG: lossy formats blur ids into other ids.')
    try:
        height, width = inspect(np.frombuffer(data, np.uint8))
        check_size(height, width, MAX_PIXELS)
    except FrameError as error:
        raise ConfigError(f'{path} cannot be read: {error}. {_MEND}') from error
    if data[_COLOUR_AT] not in (_GREY, _PALETTE):
        raise ConfigError(f'{path} is a colour picture; a label holds one id a pixel, grey or '
                          'with a palette. Convert its colours to class ids, or point to the '
                          'files that hold ids.')
    ids = cv2.imdecode(np.frombuffer(_as_grey(data), np.uint8), cv2.IMREAD_UNCHANGED)
    if ids is None or ids.shape != (height, width):
        raise ConfigError(f'{path}: its {width} x {height} pixels cannot be decoded. {_MEND}')
    depth = data[_DEPTH_AT]
    if depth < 8:  # OpenCV stretches these to 0..255
        ids = ids // np.uint8(255 // (2 ** depth - 1))
    return ids


def _as_grey(data: bytes) -> bytes:
    """
    Return the PNG without palette and ancillary chunks, declared to be grey.

    OpenCV has no way to give the indices of a palette PNG, only its colours; the pixels of both
    kinds are stored alike.
    """
    kept, place = [_SIGNATURE], len(_SIGNATURE)
    while place < len(data):
        length, kind = _CHUNK.unpack_from(data, place)
        end = place + 8 + length
        if kind == b'IHDR':
            head = bytearray(data[place + 4:end])
            head[_COLOUR_AT - place - 4] = _GREY
            kept += [data[place:place + 4], bytes(head), _UINT32.pack(zlib.crc32(head))]
        elif kind in (b'IDAT', b'IEND'):
            kept.append(data[place:end + 4])
        if kind == b'IEND':
            break
        place = end + 4
    return b''.join(kept)
