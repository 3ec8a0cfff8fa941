"""The rectification that a calibration describes."""

from ..rectification import Rectification
from .calibration import CameraCalibration


def rectification_of(calibration: CameraCalibration) -> Rectification:
    """Return how this camera's raw images are rectified."""
    return Rectification((calibration.height, calibration.width), calibration.rectification_map)
