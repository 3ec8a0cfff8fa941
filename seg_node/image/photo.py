"""
Photos in files, whose EXIF data may say that they were taken with the camera turned.

One rule: a picture in a file is shown upright, by replay, evaluate and training alike, and its
label is as shown. A message of a camera keeps the grid of the sensor, as its calibration does.
"""

import numpy as np
from numpy.typing import NDArray

from .compressed import JPEG, PNG
from .decode import decode, MAX_PIXELS
from .jpeg import segments
from .wire import CompressedImageMessage, Header

Image = NDArray[np.uint8]

_APP1, _TAG = 0xE1, 0x0112


def orientation(data: NDArray[np.uint8]) -> int:
    """
    Return EXIF's orientation of a JPEG or PNG, 1 (upright) to 8; 1 where there is none.

    :param data: the file, 1-D uint8.
    """
    start = data[:8].tobytes()
    if start.startswith(JPEG):
        for payload in segments(data, _APP1):
            if payload[:6].tobytes() == b'Exif\0\0':
                return _in_tiff(payload[6:].tobytes())
    elif start == PNG:
        return _in_tiff(_png_chunk(data.tobytes(), b'eXIf'))
    return 1


def read_photo(data: NDArray[np.uint8]) -> Image | None:
    """
    Return a JPEG or PNG file as (height, width, 3) uint8 BGR, upright; None for any other kind.

    :param data: the file, 1-D uint8.
    :raises FrameError: when it is damaged; see ``decode``.
    """
    if data[:8].tobytes().startswith((JPEG, PNG)):
        message = CompressedImageMessage(Header(0, 0, ''), '', data)
        return upright(decode(message, MAX_PIXELS), orientation(data))
    return None


def upright(image: Image, turned: int) -> Image:
    """Return a picture (height, width, channels) as it is to be shown, a new packed array."""
    if turned in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if turned in (3, 4, 7, 8):
        image = image[::-1]
    if turned in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _in_tiff(data: bytes) -> int:
    order = {b'II': 'little', b'MM': 'big'}.get(data[:2])
    if order is None:
        return 1

    def number(place: int, length: int) -> int:
        return int.from_bytes(data[place:place + length], order)  # type: ignore[arg-type]
    directory = number(4, 4)
    for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        if entry + 12 > len(data):
            break
        if number(entry, 2) == _TAG:
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1


def _png_chunk(data: bytes, kind: bytes) -> bytes:
    place = 8
    while place + 8 <= len(data) and data[place + 4:place + 8] != b'IEND':
        length = int.from_bytes(data[place:place + 4], 'big')
        if data[place + 4:place + 8] == kind:
            return data[place + 8:place + 8 + length]
        place += 12 + length
    return b''
