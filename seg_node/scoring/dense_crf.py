"""
DeepLab's fully connected CRF (Kraehenbuehl and Koltun 2011): an offline step, never in the node.

Labels are pulled to the borders of the picture's colours: pixels that are near and alike want one
label. It takes most of a second a frame, and modern decoders have little left to gain.
"""

import numpy as np

from ..errors import ConfigError

#: Those of DeepLab v2 with ResNet-101: weight and standard deviations (pixels, grey levels) of the
#: appearance kernel, of the smoothness kernel, and steps of the mean field.
APPEARANCE, XY_PX, COLOUR = 4.0, 67.0, 3.0
SMOOTHNESS, NEAR_PX = 3.0, 1.0
STEPS = 10
_LEAST = 1e-5  # of a probability: the logarithm of 0 has no pull back


def require() -> None:
    """
    Look whether the library is there.

    :raises ConfigError: it is not.
    """
    try:
        import pydensecrf.densecrf  # noqa: F401
    except ImportError as error:
        raise ConfigError('--crf needs pydensecrf2: pip install -r requirements/crf.txt (compiled '
                          f'there: g++ and the headers of Python). {error}') from error


def refined(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """
    Return the probabilities after the CRF, (C, H, W) float32.

    :param image: (H, W, 3) uint8.
    :param probabilities: (C, H, W), the sum over C is 1.
    """
    from pydensecrf.densecrf import DenseCRF2D
    classes, height, width = probabilities.shape
    field = DenseCRF2D(width, height, classes)
    unary = -np.log(np.maximum(probabilities, _LEAST)).astype(np.float32)
    field.setUnaryEnergy(np.ascontiguousarray(unary.reshape(classes, -1)))
    field.addPairwiseGaussian(sxy=NEAR_PX, compat=SMOOTHNESS)
    field.addPairwiseBilateral(sxy=XY_PX, srgb=COLOUR, rgbim=np.ascontiguousarray(image),
                               compat=APPEARANCE)
    return np.array(field.inference(STEPS), np.float32).reshape(classes, height, width)
