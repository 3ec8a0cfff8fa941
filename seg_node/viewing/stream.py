"""What goes to Rerun: pictures made small, masks with their class names, figures over time."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ..geometry import Size

try:
    import rerun as rr
except ImportError:
    rr = None

TIMELINE = 'stamp'
DRIVABLE_RGB = (60, 220, 80)
_JPEG = 80
_LEVELS = ('INFO', 'WARN', 'ERROR', 'WARN')  # of diagnostic_msgs: OK, WARN, ERROR, STALE


class RerunStream:
    """
    Writes to a recording of Rerun; nothing in it knows ROS.

    :param recording: where to.
    :param side: pictures and masks are reduced to this many pixels on their longer side.
    """

    def __init__(self, recording: Any, side: int = 640) -> None:
        self._recording = recording
        self._side = side
        self._sizes: dict[str, Size] = {}

    def classes(self, camera: str, table: Sequence[tuple[int, str, tuple[int, int, int] | None]],
                ) -> None:
        """
        Tell what the ids of a camera's mask mean, and what is drivable.

        :param table: (id, name, colour RGB or None = any).
        """
        entries = [rr.AnnotationInfo(number, name, colour) for number, name, colour in table]
        self._recording.log(f'{camera}/mask', rr.AnnotationContext(
            [*entries, rr.AnnotationInfo(255, 'unlabelled', (0, 0, 0, 0))]), static=True)
        self._recording.log(f'{camera}/drivable', rr.AnnotationContext(
            [rr.AnnotationInfo(0, 'not drivable', (0, 0, 0, 0)),
             rr.AnnotationInfo(255, 'drivable', DRIVABLE_RGB)]), static=True)

    def image(self, camera: str, stamp_ns: int, bgr: np.ndarray) -> None:
        """Show a camera's image, (height, width, 3) uint8 BGR."""
        self._sizes[camera] = size = self._reduced(bgr)
        small = cv2.resize(bgr, (size.width, size.height), interpolation=cv2.INTER_AREA)
        _, jpeg = cv2.imencode('.jpg', small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG])
        self._log(f'{camera}/image', stamp_ns, rr.EncodedImage(
            contents=jpeg.tobytes(), media_type='image/jpeg', opacity=1.0, draw_order=-20.0))

    def mask(self, camera: str, name: str, stamp_ns: int, ids: np.ndarray) -> None:
        """
        Show a mask over the camera's image; on its way it is compressed.

        :param name: ``'mask'`` or ``'drivable'``.
        :param ids: (H, W) uint8.
        """
        self._log(f'{camera}/{name}', stamp_ns, rr.SegmentationImage(self._fitted(camera, ids),
                                                                    opacity=0.5))

    def confidence(self, camera: str, stamp_ns: int, values: np.ndarray) -> None:
        """Show the confidence, (H, W) uint8, 255 = certain."""
        _, jpeg = cv2.imencode('.jpg', self._fitted(camera, values),
                               [cv2.IMWRITE_JPEG_QUALITY, _JPEG])
        self._log(f'{camera}/confidence', stamp_ns, rr.EncodedImage(
            contents=jpeg.tobytes(), media_type='image/jpeg'))

    def figures(self, path: str, stamp_ns: int, values: Mapping[str, float]) -> None:
        """Plot figures, each by its name below a path."""
        for name, value in values.items():
            self._log(f'{path}/{name}', stamp_ns, rr.Scalars([value]))

    def said(self, path: str, stamp_ns: int, level: int, text: str) -> None:
        """Note what was said, with its level as in diagnostic_msgs."""
        self._log(path, stamp_ns, rr.TextLog(text, level=_LEVELS[min(level, 3)]))

    def document(self, path: str, stamp_ns: int, markdown: str) -> None:
        """Show a text."""
        self._log(path, stamp_ns, rr.TextDocument(markdown, media_type='text/markdown'))

    def points(self, path: str, stamp_ns: int, points: np.ndarray, class_ids: np.ndarray | None,
               ) -> None:
        """Show points (N, 3) in metres, with the ids of their classes (N,) if these are known."""
        self._log(path, stamp_ns, rr.Points3D(points, class_ids=class_ids, radii=0.03))

    def outline(self, path: str, stamp_ns: int, points: np.ndarray) -> None:
        """Show the outline of an area, (N, 3) in metres."""
        self._log(path, stamp_ns, rr.LineStrips3D([points], colors=[DRIVABLE_RGB], radii=0.05))

    def layout(self, blueprint: Any) -> None:
        """Arrange the views."""
        self._recording.send_blueprint(blueprint)

    def _log(self, path: str, stamp_ns: int, what: Any) -> None:
        self._recording.set_time(TIMELINE, timestamp=np.datetime64(stamp_ns, 'ns'))
        self._recording.log(path, what)

    def _fitted(self, camera: str, ids: np.ndarray) -> np.ndarray:
        """Return a mask reduced to the size that the camera's image is shown in."""
        size = self._sizes.get(camera) or self._reduced(ids)
        return cv2.resize(ids, (size.width, size.height), interpolation=cv2.INTER_NEAREST)

    def _reduced(self, image: np.ndarray) -> Size:
        scale = min(1.0, self._side / max(image.shape[:2]))
        return Size(*(max(1, round(side * scale)) for side in image.shape[:2]))
