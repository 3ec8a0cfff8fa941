"""Render frames of many synthetic drives as a data set to mix in: images/ and labels/."""

import argparse
from pathlib import Path

import cv2
from tqdm import tqdm

from street import DISTRICTS, SyntheticDrive


def render(folder: Path, seeds: range, frames: int, size: tuple[int, int],
           district: str | None = None) -> None:
    """
    Write some frames of each seed's drive; frames that are there already are left alone.

    :param frames: of each drive, spread evenly over it.
    :param size: (width, height).
    :param district: see SyntheticDrive.
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
                                   district=district)
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
    arguments = parser.parse_args()
    render(arguments.folder, range(*arguments.seeds), arguments.frames, tuple(arguments.size),
           arguments.district)


if __name__ == '__main__':
    main()
