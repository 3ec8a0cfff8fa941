"""What is known of one camera: its calibration by file and by topic, and what follows from it."""

from dataclasses import replace

import numpy as np

from ..rectification import Rectification
from .calibration import CameraCalibration
from .rectify import rectification_of

_FOCAL_SHARE, _CENTRE_SHARE = 0.02, 0.02


class KnownCamera:
    """
    The calibration in use.

    Intrinsics come from the topic as soon as it tells some, else from the file; the mount always
    comes from the file. One thread tells, others read: what is read together is one object.

    :param from_file: the calibration file's, or None.
    :param rectify: whether masks are wanted on the rectified grid.
    :ivar calibration: in use now, with the mount if it is known; None = nothing is known yet.
    :ivar contradiction: what file and topic say differently, with both values; '' = they agree.
    """

    def __init__(self, from_file: CameraCalibration | None, rectify: bool) -> None:
        self._from_file = from_file
        self._rectify = rectify
        self.contradiction = ''
        self._use(from_file)

    def tell(self, from_topic: CameraCalibration) -> None:
        """Take the intrinsics that the topic tells."""
        if self._from_file is not None:
            self.contradiction = contradiction(self._from_file, from_topic)
            from_topic = replace(from_topic, mount=self._from_file.mount)
        self._use(from_topic)

    def forget(self) -> None:
        """Forget what the topic told."""
        self.contradiction = ''
        self._use(self._from_file)

    @property
    def rectify(self) -> bool:
        """Whether masks are wanted on the rectified grid."""
        return self._rectify

    @property
    def rectification(self) -> Rectification | None:
        """How raw images are rectified; None where that is not wanted or nothing is known."""
        return self._rectification

    def _use(self, calibration: CameraCalibration | None) -> None:
        self.calibration = calibration
        self._rectification = (rectification_of(calibration)
                               if self._rectify and calibration is not None else None)


def contradiction(file: CameraCalibration, topic: CameraCalibration) -> str:
    """Return in what a file and a topic contradict one another, with both values, or ''."""
    told = []
    if (file.width, file.height) != (topic.width, topic.height):
        told.append(f'the size ({file.resolution} and {topic.resolution})')
    elif file.distortion_model != topic.distortion_model:
        told.append(f'the distortion model ({file.distortion_model} and '
                    f'{topic.distortion_model})')
    else:
        names = ('fx', 'fy', 'cx', 'cy')
        values = [(float(one.K[0, 0]), float(one.K[1, 1]), float(one.K[0, 2]),
                   float(one.K[1, 2])) for one in (file, topic)]
        limits = np.array([_FOCAL_SHARE * file.K[0, 0], _FOCAL_SHARE * file.K[1, 1],
                           _CENTRE_SHARE * file.width, _CENTRE_SHARE * file.height])
        told += [f'{name} ({a:.1f} and {b:.1f})' for name, a, b, limit
                 in zip(names, *values, limits, strict=True) if abs(a - b) > limit]
    if not told:
        return ''
    return (f'calibration file and camera_info contradict one another in {", ".join(told)}: the '
            'topic is used. Correct one of them, or leave the file to its mount')
