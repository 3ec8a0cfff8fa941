"""
Label images by a model itself, at several sizes, for self-training on what nobody has labelled.

A model that is unsure at one size is often right at another, so what the sizes agree on teaches it
something. Writes a data set for ``--extra``: pixels where the mean probability of the best class
is too low are void.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from seg_node.devices import backend as backends
from seg_node.devices.backend import Backend
from seg_node.errors import ConfigError
from seg_node.geometry import fit, Size
from seg_node.model.card import load_card, ModelCard
from seg_node.model.taxonomy import UNLABELLED
from seg_node.preprocess import Preprocessor
from seg_node.reference import softmax
from seg_node.scoring.picture_file import read_picture


def probabilities(card: ModelCard, backend: Backend, image: np.ndarray, rows: int) -> np.ndarray:
    """
    Return class probabilities (height, width, classes) float32 at the image's size.

    :param image: (height, width, 3) uint8 BGR.
    :param rows: the network's ``short_side``.
    """
    spec = replace(card.input, short_side=rows)
    geometry = fit(spec, Size(*image.shape[:2]))
    logits = backend.run(Preprocessor(spec).tensor([image], [geometry]))[0][0]
    found = np.ascontiguousarray(softmax(logits).transpose(1, 2, 0), np.float32)
    found = cv2.resize(found, geometry.network[::-1])
    top, left = geometry.top, geometry.left
    found = found[top:top + geometry.content.height, left:left + geometry.content.width]
    return cv2.resize(found, image.shape[1::-1])


def label(card: ModelCard, backend: Backend, image: np.ndarray, rows: Sequence[int],
          least: float) -> np.ndarray:
    """
    Return label ids (height, width) uint8: the best class of the mean over sizes and mirrors.

    :param least: pixels whose mean probability is lower are void.
    """
    total = np.float32(0)
    for size in rows:
        total = total + probabilities(card, backend, image, size)
        mirrored = probabilities(card, backend, np.ascontiguousarray(image[:, ::-1]), size)
        total = total + mirrored[:, ::-1]
    mean = total / (2 * len(rows))
    return np.where(mean.max(axis=2) < least, UNLABELLED, mean.argmax(axis=2)).astype(np.uint8)


def main() -> None:
    """Parse the command line and label."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('model', help='model folder, its network of dynamic size')
    parser.add_argument('images', type=Path, help='folder of .jpg or .png')
    parser.add_argument('folder', type=Path, help='gets images/ and labels/')
    parser.add_argument('--rows', type=int, nargs='+', default=(300, 360, 450),
                        help='sizes at which the network looks (default: %(default)s)')
    parser.add_argument('--height', type=int, default=360, help='of what is written, pixels')
    parser.add_argument('--least', type=float, default=0.5,
                        help='mean probability below which a pixel is void')
    options = parser.parse_args()
    card = load_card(options.model)
    if card.input.short_side is None or card.main_output.kind != 'logits':
        raise SystemExit(f'{card.directory} must be a network of dynamic size that gives logits')
    backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=0)
    paths = sorted(path for path in options.images.glob('*')
                   if path.suffix in ('.jpg', '.png') and not path.name.startswith('.'))
    if not paths:
        raise SystemExit(f'{options.images} has no .jpg or .png files')
    for name in ('images', 'labels'):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
    for path in tqdm(paths, mininterval=10):
        try:
            image = read_picture(path)
        except ConfigError as error:
            raise SystemExit(str(error)) from None
        scale = options.height / image.shape[0]
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(options.folder / 'images' / f'{path.stem}.jpg'), image,
                    (cv2.IMWRITE_JPEG_QUALITY, 95))
        cv2.imwrite(str(options.folder / 'labels' / f'{path.stem}.png'),
                    label(card, backend, image, options.rows, options.least))


if __name__ == '__main__':
    main()
