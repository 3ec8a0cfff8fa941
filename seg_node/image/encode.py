"""Published images in fewer bytes: PNG and JPEG files, and Autoware's run lengths."""

import cv2
import numpy as np

# PNG's own filters make label images larger, not smaller; fast and almost as small as it gets.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 80)
_RUN = np.dtype([('value', 'u1'), ('length', '<i4')])  # 5 bytes, not aligned


def png(image: np.ndarray) -> np.ndarray:
    """Return a PNG file, (n,) uint8, of (H, W) uint8; nothing is lost."""
    return _encoded('.png', image, _PNG)


def jpeg(image: np.ndarray) -> np.ndarray:
    """Return a JPEG file, (n,) uint8, of (H, W, 3) uint8 BGR; never for class ids."""
    return _encoded('.jpg', image, _JPEG)


def run_lengths(mask: np.ndarray) -> bytes:
    """
    Return a mask (H, W) uint8 as Autoware's run lengths.

    Records of 5 bytes, row by row over row ends: the value (uint8) and how often it follows
    (int32, little-endian); the lengths add up to H x W (``perception_utils::run_length_decoder``).
    """
    flat = np.ascontiguousarray(mask).reshape(-1)
    if not flat.size:
        return b''
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    runs = np.empty(len(ends), _RUN)
    runs['value'] = flat[ends - 1]
    runs['length'] = np.diff(ends, prepend=0)
    return runs.tobytes()


def _encoded(suffix: str, image: np.ndarray, options: tuple[int, ...]) -> np.ndarray:
    done, data = cv2.imencode(suffix, image, options)
    assert done  # every 8-bit image can be
    return np.asarray(data).reshape(-1)
