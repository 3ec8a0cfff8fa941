"""
Calibrate a camera from photos of a chessboard or ChArUco board, or from a recording of one.

Writes a camera_info YAML file that the node, image_proc and this package's tools read, and a
picture of what the boards covered and where the corners miss. Photos that cannot be used are
named with the reason. A calibration that nobody should drive by is refused, with the mend.

Print a board, glue it to something flat, and take 15 to 20 sharp photos: near and far, in the
middle, at the edges and in the corners, tilted by 30 to 45 degrees in all directions.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
import sys
from typing import Any

import cv2
import numpy as np

from ..errors import ConfigError, FrameError, SegNodeError
from ..ground.chessboard import Board, calibrate, Calibrated, MODELS, Photos
from ..image import wire
from ..image.decode import decode
from ..playback.open_source import open_source
from ..playback.picture_source import natural_key
from ..playback.sources import IMAGE
from ..scoring.picture_file import PICTURE_SUFFIXES
from ..scoring.pictures import caption
from .console import progress

Message = wire.ImageMessage | wire.CompressedImageMessage
_RESIDUAL_SCALE = 20  # residuals are drawn so many times as long as they are


def photos_of(path: Path, board: Board, most: int) -> Photos:
    """Return the photos of a folder, or of a bag or video's first camera, looked at."""
    photos = Photos(board)
    for name, image in progress(_images(path, most), 'looking for the board'):
        if isinstance(image, str):
            photos.rejected.append((name, image))
        else:
            photos.add(name, image)
    return photos


def _images(path: Path, most: int) -> Iterator[tuple[str, np.ndarray | str]]:
    """Yield name and image, or why there is none."""
    files = sorted((file for file in path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES
                    and not file.name.startswith('.') and file.is_file()),
                   key=lambda file: natural_key(file.name)) if path.is_dir() else []
    if files:
        for file in files:
            data = np.fromfile(file, np.uint8)
            yield file.name, _decoded(data, _photo)
        return
    with open_source(path) as source:
        topics = [topic for topic in source.topics if topic.is_image]
        if not topics:
            raise ConfigError(f'{path} holds no images. Give a folder of photos, a bag or a '
                              'video.')
        topic = topics[0]
        parse = wire.parse_image if topic.type == IMAGE else wire.parse_compressed_image
        step = max(1, (topic.count or 0) // most)
        for index, record in enumerate(source.records([topic.name])):
            if index % step == 0:
                yield f'{topic.name} {index}', _decoded(record.data, parse)
        for remark in source.remarks():
            print(f'calibrate: {remark}', file=sys.stderr)


def _photo(data: np.ndarray) -> wire.CompressedImageMessage:
    return wire.CompressedImageMessage(wire.Header(0, 0, ''), '', data)


def _decoded(data: Any, parse: Callable[[Any], Message]) -> np.ndarray | str:
    """Return what a photo or message shows, or why it shows nothing."""
    try:
        return decode(parse(data))
    except FrameError as error:
        return str(error)


def picture(photos: Photos, result: Calibrated) -> np.ndarray:
    """Return what the boards covered, and where each corner misses, BGR."""
    width, height = result.calibration.width, result.calibration.height
    panel = np.full((height, width, 3), 30, np.uint8)
    rows, columns = result.coverage.shape
    most = max(1, result.coverage.max())
    for row in range(rows):
        for column in range(columns):
            share = result.coverage[row, column] / most
            if share:
                top, left = row * height // rows, column * width // columns
                bottom, right = (row + 1) * height // rows, (column + 1) * width // columns
                panel[top:bottom, left:right] = (40, int(50 + 90 * share ** 0.5), 40)
    for view in photos.views:
        assert view.residuals is not None
        for corner, residual in zip(view.corners, view.residuals, strict=True):
            start = tuple(int(value) for value in np.rint(corner))
            end = tuple(int(value) for value in np.rint(corner + _RESIDUAL_SCALE * residual))
            cv2.line(panel, start, end, (60, 90, 255), 1, cv2.LINE_AA)
            cv2.circle(panel, start, 1, (240, 240, 240), -1)
    text = (f'{len(photos.views)} photos, RMS {result.rms_px:.2f} px; lines: residuals x '
            f'{_RESIDUAL_SCALE}; green: parts with corners ({result.covered:.0%})')
    return np.vstack([caption(text, width), panel])


def report(photos: Photos, result: Calibrated) -> str:
    """Return the figures for people."""
    camera = result.calibration
    lines = [f'{view.name}: RMS {view.rms_px:.2f} px, {len(view.corners)} corners'
             for view in photos.views]
    lines += [f'{name}: left out, {reason}' for name, reason in photos.rejected]
    lines += [f'{len(photos.views)} of {len(photos.views) + len(photos.rejected)} photos used, '
              f'RMS {result.rms_px:.2f} px, boards in {result.covered:.0%} of the picture',
              f'{camera.resolution} {camera.distortion_model}: fx {camera.K[0, 0]:.1f} fy '
              f'{camera.K[1, 1]:.1f} cx {camera.K[0, 2]:.1f} cy {camera.K[1, 2]:.1f}, D '
              f'{" ".join(f"{value:.4f}" for value in camera.D)}']
    return '\n'.join(lines)


def main(args: list[str] | None = None) -> int:
    """Run the tool from the command line."""
    options = _parser().parse_args(args)
    try:
        columns, rows = _pair(options.board, '--board')
        board = Board(columns, rows, options.square, options.marker, options.dictionary)
        if not options.source.exists():
            raise ConfigError(f'{options.source} does not exist. Give a folder of photos, a bag '
                              'or a video.')
        photos = photos_of(options.source, board, options.most)
        result = calibrate(photos, options.model, options.name)
        print(report(photos, result))
        options.out.write_text(result.calibration.to_yaml(), encoding='utf-8')
        shown = options.picture or options.out.with_suffix('.png')
        cv2.imwrite(str(shown), picture(photos, result))
    except (SegNodeError, OSError) as error:
        print(f'calibrate: {error}', file=sys.stderr)
        return 1
    print(f'Written: {options.out} and {shown}. For the ground outputs add a mount: block, and '
          'look at it with check_mount.')
    return 0


def _pair(text: str, option: str) -> tuple[int, int]:
    parts = text.lower().split('x')
    if len(parts) != 2 or not all(part.isdigit() and 3 <= int(part) <= 100 for part in parts):
        raise ConfigError(f'{option} is {text!r}; give the inner corners as COLUMNSxROWS, e.g. '
                          '9x6 (of a ChArUco board the squares), 3 to 100 each')
    return int(parts[0]), int(parts[1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='calibrate', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('source', type=Path, metavar='SOURCE', help='folder of photos, bag or video')
    add('--board', default='9x6', help='inner corners, columns x rows; of a ChArUco board its '
        'squares (default: %(default)s)')
    add('--square', type=float, default=0.03, help='side of a square, metres; matters to no '
        'camera parameter (default: %(default)s)')
    add('--marker', type=float, default=0.0, help='side of a marker, metres: the board is ChArUco')
    add('--dictionary', default='DICT_4X4_250', help='of the markers (default: %(default)s)')
    add('--model', choices=MODELS, default='plumb_bob', help='lens; equidistant is for fisheyes '
        '(default: %(default)s)')
    add('--name', default='camera', help='name of the camera (default: %(default)s)')
    add('--most', type=int, default=60, help='frames of a recording to look at (default: '
        '%(default)s)')
    add('--out', type=Path, default=Path('camera.yaml'), help='default: %(default)s')
    add('--picture', type=Path, help='coverage and residuals (default: beside --out, .png)')
    return parser


if __name__ == '__main__':
    sys.exit(main())
