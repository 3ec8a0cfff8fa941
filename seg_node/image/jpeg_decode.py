"""
JPEG -> BGR by a decoder that tells what it met, so that a damaged picture is refused.

OpenCV prints a warning and paints on. libjpeg-turbo by simplejpeg gives the same pixels and the
first warning. Baseline JPEG has no checksum, so what no decoder notices is looked for in the codes
and in the picture; what every viewer shows right is never refused.
"""

import re

import numpy as np
from numpy.typing import NDArray
import simplejpeg

from ..errors import FrameError
from .jpeg import Jpeg, read_structure
from .jpeg_scan import examine, has_run_of_zeros, WHOLE, WORDS
from .jpeg_seam import has_seam

Image = NDArray[np.uint8]

_FILLER = re.compile(r'(\d+) extraneous bytes before marker 0x([0-9a-f]{2})')
_END = 'd9'
_READ_AHEAD = 8  # bytes that a decoder has taken from the filler before it knows


def decode_jpeg(jpeg: Jpeg) -> Image:
    """
    Return the picture of a JPEG as (height, width, 3) uint8, BGR, on the sensor's grid.

    :raises FrameError: ``'corrupt'`` when anything shows that it is not the picture that was
        taken.
    """
    channels = 4 if len(jpeg.components) == 4 else 3
    image = np.empty((jpeg.height, jpeg.width, channels), np.uint8)
    try:
        simplejpeg.decode_jpeg(jpeg.file, 'CMYK' if channels == 4 else 'BGR', buffer=image)
    except ValueError as error:
        _judge(jpeg, str(error))  # the picture is complete in spite of the warning
    if jpeg.simple and not jpeg.restart:
        if has_run_of_zeros(jpeg):
            raise _corrupt('a piece of it was overwritten with zeros')
        if has_seam(image, jpeg.mcu):
            raise _corrupt('a piece of it is missing: from one block on all of the picture is '
                           'shifted in brightness')
    return image if channels == 3 else _from_cmyk(image)


def prepare() -> None:
    """Load or compile all that the first damaged picture would wait for."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 320, 3), np.uint8)
    file = np.frombuffer(simplejpeg.encode_jpeg(noise, colorspace='BGR'), np.uint8)
    jpeg = read_structure(file)
    decode_jpeg(jpeg)
    examine(jpeg)


def _judge(jpeg: Jpeg, warning: str) -> None:
    """
    Return if a warning speaks of bytes that do not belong to the picture, and the rest is whole.

    Cameras fill up the scan before the end marker, some in every frame. Left over bytes may be
    the rest of a damaged picture, too.
    """
    found = _FILLER.search(warning)
    if found is None or not (jpeg.simple or found[2] == _END):
        raise _corrupt(warning.removeprefix('Corrupt JPEG data: '))
    if not jpeg.simple or found[2] == _END and _is_plain_filler(jpeg, int(found[1])):
        return
    verdict = examine(jpeg)
    if verdict != WHOLE:
        raise _corrupt(f'its scan {WORDS[verdict]}')


def _is_plain_filler(jpeg: Jpeg, left: int) -> bool:
    """
    Return whether what is left over are equal bytes, all of them and no more than those.

    Codes of a picture are not equal; and equal bytes that were read as codes are not left over.
    """
    _, start, end = jpeg.scans[0]
    tail = jpeg.file[max(start, end - left - _READ_AHEAD - 1):end]
    equal = np.flatnonzero(tail != tail[-1])
    run = tail.size - 1 - int(equal[-1]) if equal.size else tail.size
    return 4 <= run and left <= run <= left + _READ_AHEAD


def _corrupt(what: str) -> FrameError:
    return FrameError('corrupt', f'the JPEG is damaged: {what}. Look for lost packets between the '
                                 'camera and here')


def _from_cmyk(image: Image) -> Image:
    """Convert as OpenCV does, whose CMYK is that of Adobe: 0 = full ink."""
    key = image[..., 3:].astype(np.uint16)
    light = key - ((255 - image[..., :3].astype(np.uint16)) * key >> 8)
    return np.ascontiguousarray(light[..., ::-1].astype(np.uint8))
