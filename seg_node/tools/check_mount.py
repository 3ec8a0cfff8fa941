"""
Look at a camera's mount: horizon, vehicle axis and metres drawn into a frame.

On a level road, lines across lie 5, 10, 15 and 20 m ahead of the base frame, lines along lie where
the vehicle's own middle and 1.5 and 3 m to its sides go. Where they do not lie on the road as they
should, correct mount: in the calibration file. Beside it the same with the pitch 1 degree less
and more: that is how much a degree matters.
"""

import argparse
from dataclasses import replace
from pathlib import Path
import sys

import cv2
import numpy as np

from ..errors import ConfigError, SegNodeError
from ..geometry import Size
from ..ground.calibration import CameraCalibration, load_calibration, Mount
from ..scoring.pictures import caption

_AHEAD_M = (5.0, 10.0, 15.0, 20.0)
_ASIDE_M = (-3.0, -1.5, 0.0, 1.5, 3.0)
_NEAR_M, _FAR_M = 1.0, 60.0
_LINE, _AXIS, _HORIZON = (80, 220, 255), (60, 60, 255), (255, 160, 60)  # BGR


def draw(frame: np.ndarray, camera: CameraCalibration, mount: Mount, text: str) -> np.ndarray:
    """Return a frame (H, W, 3) uint8 BGR with the ground's lines as a mount puts them."""
    panel = frame.copy()
    thick = max(1, frame.shape[1] // 640)
    across, along = np.linspace(-6, 6, 121), np.geomspace(_NEAR_M, _FAR_M, 200)
    for ahead in _AHEAD_M:
        ground = np.column_stack([np.full_like(across, ahead), across])
        at = _line(panel, camera, mount, ground, _LINE, thick)
        if at is not None:
            cv2.putText(panel, f'{ahead:g} m', at, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * thick, _LINE,
                        thick, cv2.LINE_AA)
    for aside in _ASIDE_M:
        _line(panel, camera, mount, np.column_stack([along, np.full_like(along, aside)]),
              _LINE if aside else _AXIS, thick)
    bearing = np.radians(np.linspace(-60, 60, 241))
    far = np.column_stack([np.cos(bearing), np.sin(bearing), np.zeros_like(bearing)])
    _polyline(panel, _pixels(camera, mount, far, direction=True), _HORIZON, thick)
    return np.vstack([caption(text, frame.shape[1]), panel])


def _line(panel: np.ndarray, camera: CameraCalibration, mount: Mount, ground: np.ndarray,
          colour: tuple[int, int, int], thick: int) -> tuple[int, int] | None:
    """Draw a line on the ground, (n, 2) metres; return where its middle is, if it is seen."""
    points = np.column_stack([ground, np.zeros(len(ground))])
    pixels = _pixels(camera, mount, points)
    _polyline(panel, pixels, colour, thick)
    middle = pixels[len(pixels) // 2]
    if not np.isfinite(middle).all():
        return None
    return int(middle[0]) + 6, int(middle[1]) - 4


def _pixels(camera: CameraCalibration, mount: Mount, points: np.ndarray,
            direction: bool = False) -> np.ndarray:
    """Return pixels of points (or directions) of the base frame, NaN where they are not seen."""
    transform = mount.optical_from_base()
    optical = points @ transform[:3, :3].T + (0 if direction else transform[:3, 3])
    edge = np.array([[0.0, 0.0], [camera.width - 1, 0], [0, camera.height - 1],
                     [camera.width - 1, camera.height - 1]])
    widest = np.nanmax(np.hypot(*camera.normalize(edge).T)) * 1.05
    with np.errstate(divide='ignore', invalid='ignore'):
        spread = np.hypot(optical[:, 0], optical[:, 1]) / optical[:, 2]
    sane = (optical[:, 2] > 1e-6) & (spread < widest)
    pixels = np.full((len(points), 2), np.nan)
    if sane.any():
        pixels[sane] = camera.project(optical[sane])
    return pixels


def _polyline(panel: np.ndarray, pixels: np.ndarray, colour: tuple[int, int, int],
              thick: int) -> None:
    for start, end in zip(pixels, pixels[1:], strict=False):
        if np.isfinite(start).all() and np.isfinite(end).all():
            cv2.line(panel, tuple(int(v) for v in np.rint(start)),
                     tuple(int(v) for v in np.rint(end)), colour, thick, cv2.LINE_AA)


def sheet(frame: np.ndarray, camera: CameraCalibration, degrees: float = 1.0) -> np.ndarray:
    """Return the mount as it is, and with the pitch some degrees less and more."""
    mount = camera.mount
    if mount is None:
        camera.optical_from_base()  # raises, with the mend
        raise AssertionError
    panels = []
    for change in (0.0, -degrees, degrees):
        turned = replace(mount, rotation_rpy=mount.rotation_rpy
                         + np.array([0.0, np.radians(change), 0.0]))
        text = (f'pitch {np.degrees(turned.rotation_rpy[1]):.2f} deg'
                + (' as in the file' if not change else f' ({change:+g})')
                + f', height {mount.translation[2]:.2f} m')
        panels.append(draw(frame, camera, turned, text))
    small = [cv2.resize(panel, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
             for panel in panels[1:]]
    below = np.hstack(small)
    if below.shape[1] != panels[0].shape[1]:
        below = cv2.resize(below, (panels[0].shape[1], below.shape[0]))
    return np.vstack([panels[0], below])


def main(args: list[str] | None = None) -> int:
    """Run the tool from the command line."""
    parser = argparse.ArgumentParser(prog='check_mount', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('picture', type=Path, help='a frame of the camera, on a level, straight '
                        'road')
    parser.add_argument('--calibration', required=True, help='file, or name under calibration/')
    parser.add_argument('--out', type=Path, default=Path('mount.png'), help='default: %(default)s')
    options = parser.parse_args(args)
    try:
        camera = load_calibration(options.calibration)
        frame = cv2.imread(str(options.picture), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if frame is None:
            raise ConfigError(f'{options.picture} cannot be read as a picture.')
        if frame.shape[:2] != (camera.height, camera.width):
            raise ConfigError(f'{options.picture} is {Size(*frame.shape[:2])}, the calibration is '
                              f'for {camera.resolution}. Give a frame of that camera, as it is '
                              'published.')
        shown = sheet(frame, camera)
    except SegNodeError as error:
        print(f'check_mount: {error}', file=sys.stderr)
        return 1
    if not cv2.imwrite(str(options.out), shown):
        print(f'check_mount: {options.out} cannot be written', file=sys.stderr)
        return 1
    print(f'Written: {options.out}. Do the lines lie on the road as they should?')
    return 0


if __name__ == '__main__':
    sys.exit(main())
