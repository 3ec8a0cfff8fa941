"""
How many damaged JPEGs are taken for whole ones, measured; the figures of docs/decoding.md.

    python test/jpeg_damage.py                     frames of the shipped drive
    python test/jpeg_damage.py --images FOLDER     JPEGs as they are
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
import sys

import cv2
import numpy as np

from seg_node.errors import FrameError
from seg_node.image.decode import decode, MAX_PIXELS
from seg_node.image.jpeg import read_structure
from seg_node.image.wire import CompressedImageMessage, Header
from seg_node.scoring.drive import Drive

WRONG_BY = 8  # grey levels in any channel
WRONG_SHARE = 0.01  # of the pixels, from which on a picture is wrong


def _scan(data: bytes) -> tuple[int, int]:
    """Return where the picture's codes begin and end."""
    _, start, end = read_structure(np.frombuffer(data, np.uint8)).scans[0]
    return start, end


def lost(count: int) -> Callable[[bytes, np.random.Generator], bytes]:
    """Return what takes so many bytes out of the scan, at a random place."""
    def damage(data: bytes, rng: np.random.Generator) -> bytes:
        start, end = _scan(data)
        place = int(rng.integers(start, max(start + 1, end - count)))
        return data[:place] + data[min(end, place + count):]
    return damage


def overwritten(count: int, fill: int | None = 0) -> Callable[[bytes, np.random.Generator], bytes]:
    """Return what overwrites so many bytes of the scan, with one value or (None) at random."""
    def damage(data: bytes, rng: np.random.Generator) -> bytes:
        start, end = _scan(data)
        place = int(rng.integers(start, max(start + 1, end - count)))
        stop = min(end, place + count)
        junk = (rng.integers(0, 256, stop - place, np.uint8).tobytes() if fill is None
                else bytes([fill]) * (stop - place))
        return data[:place] + junk + data[stop:]
    return damage


def tail_lost(data: bytes, rng: np.random.Generator) -> bytes:
    """Take the end of the scan away and keep the end marker."""
    start, end = _scan(data)
    return data[:int(rng.integers(start, end))] + data[end:]


KINDS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    '1400 bytes lost': lost(1400), 'tail lost, end marker kept': tail_lost,
    '188 bytes lost': lost(188), '16 bytes lost': lost(16),
    '1400 bytes zeroed': overwritten(1400), '188 bytes zeroed': overwritten(188),
    '16 bytes zeroed': overwritten(16), '1400 random bytes': overwritten(1400, None),
    '188 random bytes': overwritten(188, None), '16 random bytes': overwritten(16, None)}


def picture(data: bytes) -> np.ndarray:
    """Decode as the node does."""
    return decode(CompressedImageMessage(Header(0, 0, ''), 'jpeg', np.frombuffer(data, np.uint8)),
                  MAX_PIXELS)


def outcome(whole: bytes, damaged: bytes) -> str:
    """Return ``refused``, ``right`` (up to a few pixels) or ``wrong``."""
    try:
        image = picture(damaged)
    except FrameError:
        return 'refused'
    truth = cv2.imdecode(np.frombuffer(whole, np.uint8),
                         cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    differs = np.abs(image.astype(np.int16) - truth).max(axis=2) > WRONG_BY
    return 'wrong' if differs.mean() > WRONG_SHARE else 'right'


def measure(files: list[bytes], kinds: Iterable[str], count: int,
            seed: int = 0) -> dict[str, Counter[str]]:
    """Damage ``count`` pictures a kind, the files in turn; return the outcomes of each kind."""
    found: dict[str, Counter[str]] = {}
    for kind in kinds:
        rng = np.random.default_rng([seed, *kind.encode()])
        wholes = (files[n % len(files)] for n in range(count))
        found[kind] = Counter(outcome(whole, KINDS[kind](whole, rng)) for whole in wholes)
    return found


def drive_jpegs(count: int, quality: int = 85) -> list[bytes]:
    """Return so many frames of the shipped drive, evenly spread, as JPEG."""
    drive = Drive()
    chosen = range(0, len(drive), max(1, len(drive) // count))[:count]
    return [cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            for image in drive.images(chosen)]


def _files(options: argparse.Namespace) -> Iterator[bytes]:
    if options.images is None:
        yield from drive_jpegs(75, options.quality or 85)
        return
    for path in sorted(options.images.glob('*.jp*g')):
        data = path.read_bytes()
        if options.quality:
            data = cv2.imencode('.jpg', cv2.imread(str(path)),
                                [cv2.IMWRITE_JPEG_QUALITY, options.quality])[1].tobytes()
        yield data


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=Path, help='a folder of JPEGs')
    parser.add_argument('--quality', type=int, help='encode them anew with this quality')
    parser.add_argument('--count', type=int, default=300, help='damaged pictures a kind')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    files = list(_files(options))
    if not files:
        sys.exit(f'{options.images} holds no JPEG')
    print('| damage | refused | right | wrong |\n|---|---|---|---|')
    for kind, seen in measure(files, KINDS, options.count, options.seed).items():
        shares = (f'{100 * seen[word] / options.count:.1f} %'
                  for word in ('refused', 'right', 'wrong'))
        print(f'| {kind} | {" | ".join(shares)} |')


if __name__ == '__main__':
    main()
