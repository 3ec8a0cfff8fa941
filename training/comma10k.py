"""
Make a data set for ``--data`` of a clone of comma10k (github.com/commaai/comma10k, MIT).

    python -m training.comma10k CLONE OUT

CLONE holds imgs/ and masks/ (and imgs2/ and masks2/ ...), PNGs of one name in the colours of the
class table comma10k5. OUT gets train/ and val/, each with images/ (JPEG) and labels/ (PNG of class
ids). Val is what comma validate on: the names that end with 9.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from seg_node.errors import ConfigError
from seg_node.model.taxonomy import ClassTable, load_taxonomy, UNLABELLED
from seg_node.scoring.picture_file import read_picture

# Who sits in the car that carries the camera moves, but belongs to it.
_IN_MY_CAR_BGR = (255, 204, 0)
# Of the pixels: so many may have been painted with soft edges, in colours between two classes'.
MAX_STRAY = 0.02


def pairs(clone: Path) -> Iterator[tuple[Path, Path]]:
    """
    Yield image and mask of each pair, by folders and names.

    :raises ConfigError: there are none, or an image has no mask.
    """
    folders = sorted(path for path in clone.glob('imgs*') if path.is_dir())
    images = [image for folder in folders for image in sorted(folder.glob('[!.]*.png'))]
    if not images:
        raise ConfigError(f'{clone} has no imgs/*.png: give the folder of a clone of comma10k, '
                          'which holds imgs/ and masks/')
    for image in images:
        mask = clone / image.parent.name.replace('imgs', 'masks') / image.name
        if not mask.is_file():
            raise ConfigError(f'{image} has no mask {mask}. Fetch the clone whole, or take the '
                              'image out')
        yield image, mask


def ids_of(mask: np.ndarray, table: ClassTable) -> np.ndarray:
    """
    Return class ids (H, W) uint8 of a painted mask (H, W, 3) uint8 BGR; strays are void.

    :raises ConfigError: more than ``MAX_STRAY`` of it is in colours of no class.
    """
    keys = mask.astype(np.uint32) @ np.uint32([1, 256, 65536])
    ids = np.full(keys.shape, UNLABELLED, np.uint8)
    colours = [*zip(table.palette_bgr(), table.ids, strict=False),
               (_IN_MY_CAR_BGR, table.id_of('MyCar', 'comma10k'))]
    for colour, number in colours:
        ids[keys == np.uint32(colour) @ np.uint32([1, 256, 65536])] = number
    if (stray := float((ids == UNLABELLED).mean())) > MAX_STRAY:
        found, counts = np.unique(keys[ids == UNLABELLED], return_counts=True)
        blue, green, red = int(found[counts.argmax()]).to_bytes(3, 'little')
        raise ConfigError(f'{stray:.0%} of it has colours of no class, most #{red:02x}{green:02x}'
                          f'{blue:02x}; at most {MAX_STRAY:.0%} may. The classes: ' + ', '.join(
                              f'{name} #{r:02x}{g:02x}{b:02x}' for name, (b, g, r) in
                              zip(table.names, table.palette_bgr(), strict=False)))
    return ids


def convert(image: Path, mask: Path, out: Path, height: int, table: ClassTable) -> None:
    """
    Write one pair at a height of so many pixels at most.

    :raises ConfigError: a file that cannot be read, sizes that differ, or see ``ids_of``.
    """
    bgr, painted = read_picture(image), read_picture(mask)
    if bgr.shape != painted.shape:
        raise ConfigError(f'{mask} has {painted.shape[1]}x{painted.shape[0]} pixels, its image '
                          f'{bgr.shape[1]}x{bgr.shape[0]}')
    try:
        ids = ids_of(painted, table)
    except ConfigError as error:
        raise ConfigError(f'{mask}: {error}') from None
    scale = min(1.0, height / bgr.shape[0])
    size = tuple(max(1, round(side * scale)) for side in bgr.shape[1::-1])
    folder = out / ('val' if image.stem.endswith('9') else 'train')
    stem = f'{image.parent.name}_{image.stem}'
    for name in ('images', 'labels'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / 'images' / f'{stem}.jpg'),
                cv2.resize(bgr, size, interpolation=cv2.INTER_AREA),
                (cv2.IMWRITE_JPEG_QUALITY, 95))
    cv2.imwrite(str(folder / 'labels' / f'{stem}.png'),
                cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST_EXACT))


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('clone', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--height', type=int, default=437,
                        help='of what is written, pixels (default: %(default)s, half)')
    parser.add_argument('--every', type=int, default=1, metavar='N',
                        help='take every Nth pair: training holds all of them in memory, at the '
                        'default height 1 MB each')
    options = parser.parse_args()
    if options.height < 1 or options.every < 1:
        parser.error('--height and --every must be 1 or more')
    table = load_taxonomy('comma10k5')
    try:
        found = list(pairs(options.clone))[::options.every]
        for image, mask in tqdm(found, mininterval=10):
            convert(image, mask, options.out, options.height, table)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    if missing := [name for name in ('train', 'val') if not (options.out / name).is_dir()]:
        raise SystemExit(f'{options.out} got no pair for {missing[0]}: val are the names that end '
                         'with 9, train all others')


if __name__ == '__main__':
    main()
