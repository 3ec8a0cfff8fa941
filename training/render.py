"""Render frames of many synthetic drives as a data set to mix in: images/ and labels/."""

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from seg_node.errors import ConfigError
from seg_node.ground.calibration import CameraCalibration, load_calibration
from street import DISTRICTS, SyntheticDrive
from street.drive import DEMO_CAMERA


def any_camera(seed: int) -> CameraCalibration:
    """
    Return a camera by lot: height, tilt, field of view, principal point and distortion.

    It sits 1.1 to 2.3 m above the ground, looks up to 6 degrees up or down and sees 0.8 to 1.7
    times as wide as the demo camera.
    """
    rng = np.random.default_rng([seed, 9])
    camera = load_calibration(DEMO_CAMERA)
    if camera.mount is None:
        raise ConfigError(f'{DEMO_CAMERA} has no mount. Add one to its file.')
    zoom = np.diag([*[float(np.exp(rng.uniform(np.log(0.6), np.log(1.25))))] * 2, 1.0])
    # About the middle, which moves, too.
    middle = np.array([camera.width, camera.height]) / 2 * rng.normal(1, 0.02, 2)
    zoom[:2, 2] = middle - zoom[0, 0] * middle
    mount = replace(
        camera.mount,
        translation=camera.mount.translation + [0, rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.9)],
        rotation_rpy=camera.mount.rotation_rpy + np.deg2rad([rng.normal(0, 0.7),
                                                            rng.uniform(-6, 6),
                                                            rng.normal(0, 1.5)]))
    # A wide lens distorts no more at its corners than a narrow one.
    return replace(camera, K=zoom @ camera.K, P=zoom @ camera.P, mount=mount,
                   D=camera.D * rng.uniform(0, 1) * min(1.0, zoom[0, 0] ** 2))


def render(folder: Path, seeds: range, frames: int, size: tuple[int, int],
           district: str | None = None, *, cameras: bool = False) -> None:
    """
    Write some frames of each seed's drive; frames that are there already are left alone.

    :param frames: of each drive, spread evenly over it.
    :param size: (width, height).
    :param district: see SyntheticDrive.
    :param cameras: each drive is seen by a camera of its own: ``any_camera``.
    """
    for name in ('images', 'labels'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(seeds) * frames, mininterval=10) as bar:
        for seed in seeds:
            names = [f'{seed:05d}_{n:03d}' for n in range(frames)]
            missing = [n for n, name in enumerate(names)
                       if not (folder / 'labels' / f'{name}.png').exists()]
            bar.update(frames - len(missing))
            if not missing:
                continue
            drive = SyntheticDrive(*size, rate_hz=1.0, duration_s=15.0, seed=seed,
                                   district=district,
                                   calibration=any_camera(seed) if cameras else None)
            for n in missing:
                frame = drive.frame(n * len(drive) // frames)
                cv2.imwrite(str(folder / 'images' / f'{names[n]}.jpg'), frame.image,
                            (cv2.IMWRITE_JPEG_QUALITY, 95))
                cv2.imwrite(str(folder / 'labels' / f'{names[n]}.png'), frame.labels)
                bar.update()


def main() -> None:
    """Parse the command line and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--seeds', type=int, nargs=2, default=(1000, 1050),
                        metavar=('FIRST', 'END'), help='first seed and the one after the last')
    parser.add_argument('--frames', type=int, default=4, help='of each drive')
    parser.add_argument('--size', type=int, nargs=2, default=(480, 360),
                        metavar=('WIDTH', 'HEIGHT'))
    parser.add_argument('--district', choices=DISTRICTS,
                        help='where all drives lead; without it each seed draws one in town')
    parser.add_argument('--cameras', action='store_true',
                        help='a camera of its own for each drive: height, tilt, field of view')
    arguments = parser.parse_args()
    render(arguments.folder, range(*arguments.seeds), arguments.frames, tuple(arguments.size),
           arguments.district, cameras=arguments.cameras)


if __name__ == '__main__':
    main()
