"""
The one reader of picture files: for replay, demo, evaluate and training alike.

JPEG and PNG are decoded as the node decodes them, everything else by Pillow. Pictures whose EXIF
data say that they were taken with the camera turned are upright, as their labels are.
"""

from io import BytesIO
from pathlib import Path
import warnings

import numpy as np
from PIL import Image, ImageOps

from ..errors import ConfigError, FrameError
from ..image.decode import MAX_PIXELS
from ..image.photo import read_photo

try:
    import pillow_heif
    pillow_heif.register_heif_opener()
except ImportError:  # a plugin where photos of telephones are wanted; its wheel bundles codecs
    pillow_heif = None

HEIC_SUFFIXES = ('.heic', '.heif', '.hif')
PICTURE_SUFFIXES = ('.avif', '.bmp', '.jfif', '.jpeg', '.jpg', '.pgm', '.png', '.pnm', '.ppm',
                    '.tif', '.tiff', '.webp', *HEIC_SUFFIXES)
_MEND = 'Remove or mend it.'
# Those of TIFF are rather the pages or previews of one picture.
_FILMS = ('AVIF', 'GIF', 'WEBP')
_DEEP = ('I;16', 'I;16B', 'I;16L', 'I;16N')


def read_picture(path: Path) -> np.ndarray:
    """
    Return a picture file as (height, width, 3) uint8 BGR, upright.

    :raises ConfigError: when it cannot be read, is damaged, too large, or of a kind unknown.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error.strerror}. {_MEND}') from error
    return decode_picture(path, data)


def decode_picture(path: Path, data: bytes) -> np.ndarray:
    """
    Return the bytes of a picture file as (height, width, 3) uint8 BGR, upright.

    :param path: what to call it in an error.
    :raises ConfigError: as ``read_picture`` does.
    """
    try:
        image = read_photo(np.frombuffer(data, np.uint8))
    except FrameError as error:
        raise ConfigError(f'{path} cannot be read: {error}. {_MEND}') from None
    return _by_pillow(path, data) if image is None else image


def _by_pillow(path: Path, data: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of large pictures and odd metadata
            opened = Image.open(BytesIO(data))
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise ConfigError(f'{path} has {width}x{height} pixels; at most {MAX_PIXELS} are '
                                  'decoded. Scale it down.')
            if opened.format in _FILMS and getattr(opened, 'n_frames', 1) > 1:
                raise ConfigError(f'{path} is a film of {opened.n_frames} pictures. Convert it to '
                                  'a video, or to one file a picture.')
            if opened.mode in _DEEP or (opened.mode, opened.format) == ('I', 'PPM'):
                grey = (np.asarray(opened) >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            if opened.mode in ('I', 'F'):
                raise ConfigError(f'{path} has pixels of 32 bit, which is no photo. {_MEND}')
            rgb = np.asarray(ImageOps.exif_transpose(opened).convert('RGB'))
    except ConfigError:
        raise
    except Image.DecompressionBombError as error:
        raise ConfigError(f'{path} is too large: {error} Scale it down.') from None
    except Exception as error:  # each format of Pillow has its own kinds
        heic = path.suffix.lower() in HEIC_SUFFIXES and pillow_heif is None
        mend = 'Install pillow-heif, or convert it.' if heic else _MEND
        raise ConfigError(f'{path} ({len(data)} bytes) is not an image that can be read. '
                          f'{mend}') from error
    return np.ascontiguousarray(rgb[..., ::-1])
