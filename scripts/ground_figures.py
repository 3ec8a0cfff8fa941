"""
Measure the free space on the shipped drive, whose street is known: the tables of docs/ground.md.

    python scripts/ground_figures.py [--every 12] [--network]

The truth is not the mask's: the same frames are rendered anew at four times the size, and a cell
counts as road by 25 points of it. Cells that the camera does not see whole are not counted.
"""

import argparse
from dataclasses import replace
import sys

import numpy as np

from seg_node.devices import backend
from seg_node.devices.host import HostSegmenter
from seg_node.frame import Demand, Frame, StageClock
from seg_node.geometry import Size
from seg_node.ground.calibration import CameraCalibration, Mount, rotation_from_rpy
from seg_node.ground.free_space import FREE, FreeSpace, GridSpec
from seg_node.ground.live_pitch import LivePitch, MOST_DEVIATION, Pitch, USUAL_SIGMA
from seg_node.ground.rays import make_rays
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import load_card
from seg_node.model.taxonomy import load_taxonomy
from seg_node.scoring.drive import Body, Drive, DriveFrame
from street import SyntheticDrive

SEED, SCALE, POINTS = 2, 4, 5
RANGE_M, NEAR_M = 20.0, 15.0
GRID = GridSpec()


def true_mount(mount: Mount, body: Body) -> Mount:
    """Return where the camera sits above the road now, the body's pitch, roll and height in it."""
    turn = rotation_from_rpy(body.roll_rad, body.pitch_rad, 0.0)
    whole = turn @ rotation_from_rpy(*mount.rotation_rpy)
    pitch = -np.arcsin(whole[2, 0])
    rpy = np.array([np.arctan2(whole[2, 1], whole[2, 2]), pitch,
                    np.arctan2(whole[1, 0], whole[0, 0])])
    return replace(mount, translation=turn @ mount.translation + (0, 0, body.height_m),
                   rotation_rpy=rpy)


def pitched(mount: Mount, degrees: float) -> Mount:
    """Return the mount with another pitch."""
    return replace(mount, rotation_rpy=mount.rotation_rpy + (0.0, np.radians(degrees), 0.0))


def truth(labels: np.ndarray, road: int, camera: CameraCalibration, mount: Mount,
          ) -> tuple[np.ndarray, np.ndarray]:
    """Return for each cell the share that is road and the share that the camera sees."""
    rows, columns = GRID.shape
    inner = (np.arange(POINTS) + 0.5) / POINTS
    x = ((np.arange(columns)[:, None] + inner) * GRID.cell_m).ravel()
    y = ((np.arange(rows)[:, None] + inner) * GRID.cell_m - GRID.aside_m).ravel()
    x, y = np.meshgrid(x, y)
    points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size), np.ones(x.size)])
    optical = (mount.optical_from_base() @ points)[:3].T
    with np.errstate(divide='ignore', invalid='ignore'):
        sane = (optical[:, 2] > 0.5) & (np.hypot(*optical[:, :2].T) / optical[:, 2] < 0.95)
    pixels = np.full((len(optical), 2), -1)
    pixels[sane] = np.rint(camera.project(optical[sane]))
    inside = ((pixels >= 0) & (pixels < (camera.width, camera.height))).all(axis=1)
    at = np.where(inside, pixels[:, 1] * camera.width + pixels[:, 0], 0)
    hit = (labels.reshape(-1)[at] == road) & inside

    def share(values: np.ndarray) -> np.ndarray:
        return values.reshape(rows, POINTS, columns, POINTS).mean(axis=(1, 3))
    return share(hit), share(inside)


def boundary_errors(space: FreeSpace, found: np.ndarray, labels: np.ndarray, road: int,
                    camera: CameraCalibration, mount: Mount) -> np.ndarray:
    """Return how far off each ray's boundary is, metres, where it truly lies 8 to 12 m away."""
    ranges = np.arange(7.0, 13.0, 0.01)
    bearings = space.rays.bearings
    x = mount.translation[0] + ranges * np.cos(bearings)[:, None]
    y = mount.translation[1] + ranges * np.sin(bearings)[:, None]
    points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size), np.ones(x.size)])
    optical = (mount.optical_from_base() @ points)[:3].T
    pixels = np.rint(camera.project(optical)).astype(int)
    inside = ((pixels >= 0) & (pixels < (camera.width, camera.height))).all(axis=1)
    at = np.where(inside, pixels[:, 1] * camera.width + pixels[:, 0], 0)
    off = ((labels.reshape(-1)[at] != road) & inside).reshape(x.shape)
    told = off.any(axis=1) & ~off[:, :100].any(axis=1) & inside.reshape(x.shape).all(axis=1)
    truth = ranges[off.argmax(axis=1)]
    told &= (truth > 8) & (truth < 12) & np.isfinite(found)
    return np.abs(found - truth)[told]


class Tally:
    """Counts cells over frames."""

    def __init__(self) -> None:
        self.free = self.false = self.open = self.found = self.cells = self.right = 0

    def add(self, grid: np.ndarray, road: np.ndarray, seen: np.ndarray, foot: np.ndarray) -> None:
        """Count one frame."""
        rows, columns = GRID.shape
        x = (np.arange(columns) + 0.5) * GRID.cell_m - foot[0]
        y = (np.arange(rows) + 0.5) * GRID.cell_m - GRID.aside_m - foot[1]
        distance = np.hypot(x[None, :], y[:, None])
        counted = (distance <= RANGE_M) & (seen >= 1)
        free = counted & (grid == FREE)
        self.free += int(free.sum())
        self.false += int((free & (road < 0.5)).sum())
        open_ = counted & (road >= 1) & (distance <= NEAR_M)
        self.open += int(open_.sum())
        self.found += int((open_ & free).sum())
        self.cells += int(counted.sum())
        self.right += int((counted & (free == (road >= 0.5))).sum())

    def line(self) -> str:
        """Return the figures."""
        return (f'falsely free {self.false / max(1, self.free):.2%} of the free cells, '
                f'{self.false / self.cells:.2%} of all; truly free within {NEAR_M:g} m called '
                f'free {self.found / self.open:.1%}; right {self.right / self.cells:.2%}')


class Figures:
    """
    Counts frames of the shipped drive.

    :param segmenter: whose labels count; None = the true ones.
    """

    def __init__(self, drive: Drive, segmenter: HostSegmenter | None) -> None:
        assert drive.calibration.mount is not None
        self.camera, self.mount = drive.calibration, drive.calibration.mount
        self.segmenter = segmenter
        self.classes = load_taxonomy('camvid11')
        self.size = Size(self.camera.height, self.camera.width)
        self.large = SyntheticDrive(self.camera.width * SCALE, self.camera.height * SCALE,
                                    drive.rate_hz, 15.0, SEED, sensor_noise=False)
        self.cases: dict[str, Tally] = {}
        self.errors: list[np.ndarray] = []

    def labels(self, frame: DriveFrame) -> np.ndarray:
        """Return the labels that count, (H, W) uint8."""
        if self.segmenter is None:
            return frame.labels
        message = ImageMessage(Header(0, 0, ''), *self.size, 'bgr8', False, 3 * self.size.width,
                               frame.image.reshape(-1))
        return self.segmenter.segment([Frame('', message)], Demand(), StageClock())[0].labels

    def add(self, frame: DriveFrame, pitch: Pitch) -> None:
        """Count one frame with each mount that is compared."""
        mask = self.labels(frame)
        area = self.classes.drivable_lut()[mask]
        mount = true_mount(self.mount, frame.body)
        labels, number = self.large.frame(frame.index).labels, self.classes.names.index('Road')
        road, seen = truth(labels, number, self.large.calibration, mount)
        space = self._space(mount, 0.0, mark_boundary=True)
        self.errors.append(boundary_errors(space, space.see(mask, area).boundary_m, labels, number,
                                           self.large.calibration, mount))

        def count(name: str, mount: Mount, sigma_deg: float, *measured: float) -> None:
            space = self._space(mount, sigma_deg)
            grid = space.occupancy(space.see(mask, area, *measured))
            self.cases.setdefault(name, Tally()).add(grid, road, seen, mount.translation)

        for sigma in (0.0, 0.5, 1.0):
            count(f'true pose, sigma {sigma:g}', mount, sigma)
        for sigma, error in ((0.5, 0.5), (0.5, -0.5), (1.0, 1.0), (1.0, -1.0)):
            count(f'pitch {error:+g} off, sigma {sigma:g}', pitched(mount, error), sigma)
        for sigma in (0.5, 1.0):
            count(f"the mount's pitch, sigma {sigma:g}", self.mount, sigma)
        count('live pitch', self.mount, float(np.degrees(USUAL_SIGMA)), pitch.deviation,
              pitch.sigma)

    def _space(self, mount: Mount, sigma_deg: float, mark_boundary: bool = False) -> FreeSpace:
        rays = make_rays(self.camera, mount, self.size, rectified=False,
                         margin_rad=0.0 if mark_boundary else MOST_DEVIATION,
                         pitch_sigma_rad=np.radians(sigma_deg), max_range_m=RANGE_M)
        return FreeSpace(rays, GRID, self.classes.ground_lut(), mark_boundary=mark_boundary)

    def tell(self) -> None:
        """Print the figures."""
        off = np.concatenate(self.errors)
        print(f'boundary at 8 to 12 m: {len(off)} rays, median {np.median(off):.3f} m, 95 % '
              f'{np.percentile(off, 95):.3f} m')
        for name, tally in self.cases.items():
            print(f'{name}: {tally.line()}')


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--every', type=int, default=12, help='of the 150 frames')
    parser.add_argument('--network', action='store_true', help='labels of the default model')
    options = parser.parse_args()
    drive, segmenter = Drive(), None
    if options.network:
        card = load_card('deeplabv3plus_lite0_camvid')
        segmenter = HostSegmenter(card, backend.load('onnxruntime', card, threads=0,
                                                     providers=['CPUExecutionProvider']))
    figures = Figures(drive, segmenter)
    live = LivePitch(figures.camera, figures.mount)
    for frame in drive.frames(range(len(drive))):
        pitch = live.update(frame.image, round(frame.body.time_s * 1e9) + 1)
        if frame.index % options.every == 0:
            figures.add(frame, pitch)
    print('labels: ' + ('the default model' if options.network else 'true'))
    figures.tell()
    return 0


if __name__ == '__main__':
    sys.exit(main())
