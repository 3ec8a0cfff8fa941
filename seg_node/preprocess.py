"""Camera image -> network input: resize, colour order, normalisation, layout, border."""

import cv2
import numpy as np

from .antialias import antialiased
from .geometry import Geometry, Size
from .jit import njit
from .model.card import InputSpec


class Preprocessor:
    """
    Fills the network's input tensor from BGR images.

    The normalised value of each of the 256 grey levels is computed once in float64 and rounded
    once to the network's type; a pixel is then one table look-up, exact for every dtype.
    """

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        # Kept as unsigned words of the same width: numba has no float16 on the CPU.
        self._table = level_values(spec).view(_word(spec.dtype))
        self._order = (2, 1, 0) if spec.colour == 'rgb' else (0, 1, 2)
        self._buffers: dict[tuple[int, Size], np.ndarray] = {}

    def tensor(self, images: list[np.ndarray], geometries: list[Geometry]) -> np.ndarray:
        """
        Return the network's input for a batch of images that share one network size.

        :param images: (height, width, 3) uint8 BGR each, rows may be padded.
        :param geometries: one for each image, all with the same ``network`` size.
        :returns: the card's layout and dtype, valid until the next call.
        """
        network = geometries[0].network
        batch = self._buffer(len(images), network)
        words = batch.view(self._table.dtype)
        for values, item, image, geometry in zip(batch, words, images, geometries, strict=True):
            top, left = geometry.top, geometry.left
            if geometry.content != network:
                self._fill_border(item, geometry)
            if self._spec.interpolation == 'unrounded':
                self._fill_unrounded(values, image, geometry)
                continue
            small = _fitted(image, geometry, self._spec)
            _look_up(small, self._table, self._order, item, top, left, self._spec.layout == 'NHWC')
        return batch

    def _buffer(self, count: int, network: Size) -> np.ndarray:
        key = (count, network)
        if key not in self._buffers:
            if len(self._buffers) > 16:  # cameras that keep changing their size
                self._buffers.clear()
            shape = ((count, 3, *network) if self._spec.layout == 'NCHW'
                     else (count, *network, 3))
            self._buffers[key] = np.empty(shape, self._spec.dtype)
        return self._buffers[key]

    def _fill_unrounded(self, values: np.ndarray, image: np.ndarray, geometry: Geometry) -> None:
        """Fill the content without rounding what lies between pixels to whole grey levels."""
        spec = self._spec
        if geometry.rectification is not None:
            image = geometry.rectification.picture(image, geometry.camera, round(spec.pad_value))
        gain = np.array([spec.scale / std for std in spec.std], np.float32)
        offset = np.array([mean / std for mean, std in zip(spec.mean, spec.std, strict=True)],
                          np.float32)
        size = geometry.content
        small = cv2.resize(image.astype(np.float32), (size.width, size.height),
                           interpolation=cv2.INTER_LINEAR)[..., self._order] * gain - offset
        rows = slice(geometry.top, geometry.top + size.height)
        columns = slice(geometry.left, geometry.left + size.width)
        if spec.layout == 'NCHW':
            values[:, rows, columns] = small.transpose(2, 0, 1)
        else:
            values[rows, columns] = small

    def _fill_border(self, item: np.ndarray, geometry: Geometry) -> None:
        """Fill what the image leaves free; another camera's may have lain there."""
        border = self._table[:, round(self._spec.pad_value), None, None]
        planes = item if self._spec.layout == 'NCHW' else item.transpose(2, 0, 1)
        top, left = geometry.top, geometry.left
        bottom, right = top + geometry.content.height, left + geometry.content.width
        for part in (planes[:, :top], planes[:, bottom:], planes[:, top:bottom, :left],
                     planes[:, top:bottom, right:]):
            part[...] = border


def level_values(spec: InputSpec) -> np.ndarray:
    """Return what each grey level is to the network, (3, 256) of its dtype, in its channels."""
    grey = np.arange(256, dtype=np.float64)
    return np.stack([(grey * spec.scale - mean) / std for mean, std in
                     zip(spec.mean, spec.std, strict=True)]).astype(spec.dtype)


def _word(dtype: str) -> np.dtype:
    return np.dtype(f'u{np.dtype(dtype).itemsize}')


def _fitted(image: np.ndarray, geometry: Geometry, spec: InputSpec) -> np.ndarray:
    """Return the image at the size of the content, rectified on the way where that is asked."""
    size, border = geometry.content, round(spec.pad_value)
    if geometry.rectification is not None:
        if spec.interpolation != 'antialias':
            return geometry.rectification.picture(image, size, border)
        image = geometry.rectification.picture(image, geometry.camera, border)
    if image.shape[:2] == size:
        return np.ascontiguousarray(image)
    if spec.interpolation == 'antialias':
        return antialiased(image, size)
    return cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_LINEAR)


@njit()
def _look_up(image, table, order, item, top, left, channels_last):
    """Write the values of an image into the network's input, which may be larger."""
    height, width = image.shape[:2]
    for y in range(height):
        for k in range(3):
            source = order[k]
            if channels_last:
                for x in range(width):
                    item[top + y, left + x, k] = table[k, image[y, x, source]]
            else:
                row = item[k, top + y, left:left + width]
                for x in range(width):
                    row[x] = table[k, image[y, x, source]]
