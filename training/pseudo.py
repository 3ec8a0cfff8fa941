"""
Label images by a model itself, at several sizes, for self-training on what nobody has labelled.

A model that is unsure at one size is often right at another, so what the sizes agree on teaches it
something. Writes a data set for ``--extra``: pixels where the mean probability of the best class
is too low are void.

A model of other classes labels one that it knows (``--teach Road=road,mark``): where it is sure of
it, and, as ``augment.NOT`` + id, where it is sure of anything else.
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
from seg_node.model.taxonomy import load_taxonomy, UNLABELLED
from seg_node.preprocess import Preprocessor
from seg_node.reference import softmax
from seg_node.scoring.picture_file import read_picture

from .augment import NOT


def probabilities(card: ModelCard, backend: Backend, image: np.ndarray,
                  rows: int | None) -> np.ndarray:
    """
    Return class probabilities (height, width, classes) float32 at the image's size.

    :param image: (height, width, 3) uint8 BGR.
    :param rows: the network's ``short_side``; None: one of fixed size.
    """
    spec = card.input if rows is None else replace(card.input, short_side=rows)
    geometry = fit(spec, Size(*image.shape[:2]))
    head = card.main_output
    index = [output.name for output in card.outputs].index(head.name)
    scores = backend.run(Preprocessor(spec).tensor([image], [geometry]))[index][0]
    if head.layout == 'NHWC':
        scores = scores.transpose(2, 0, 1)
    found = np.ascontiguousarray((softmax(scores) if head.kind == 'logits' else scores)
                                 .transpose(1, 2, 0), np.float32)
    found = cv2.resize(found, geometry.network[::-1])
    top, left = geometry.top, geometry.left
    found = found[top:top + geometry.content.height, left:left + geometry.content.width]
    return cv2.resize(found, image.shape[1::-1])


def mean_probabilities(card: ModelCard, backend: Backend, image: np.ndarray,
                       rows: Sequence[int | None]) -> np.ndarray:
    """Return the mean (height, width, classes) float32 over sizes and mirrors."""
    total = np.float32(0)
    for size in rows:
        total = total + probabilities(card, backend, image, size)
        mirrored = probabilities(card, backend, np.ascontiguousarray(image[:, ::-1]), size)
        total = total + mirrored[:, ::-1]
    return total / (2 * len(rows))


def label(mean: np.ndarray, least: float) -> np.ndarray:
    """
    Return label ids (height, width) uint8: the best class.

    :param mean: see ``mean_probabilities``.
    :param least: pixels whose mean probability is lower are void.
    """
    return np.where(mean.max(axis=2) < least, UNLABELLED, mean.argmax(axis=2)).astype(np.uint8)


def label_one(mean: np.ndarray, channels: Sequence[int], number: int, least: float) -> np.ndarray:
    """
    Return labels (height, width) uint8 of one class: its id, or ``NOT`` + id, or void.

    :param mean: see ``mean_probabilities``.
    :param channels: those that are this class, summed.
    :param number: id of the class in the labels.
    :param least: the probability of it, or of all else, below which a pixel is void.
    """
    share = mean[..., list(channels)].sum(axis=2)
    return np.select([share >= least, share <= 1 - least], [number, NOT + number],
                     UNLABELLED).astype(np.uint8)


def _taught(text: str, card: ModelCard, taxonomy: str) -> tuple[list[int], int]:
    """Return the teacher's channels and the class id of a ``--teach``."""
    name, _, theirs = text.partition('=')
    table = card.main_output.classes
    return ([table.id_of(one, '--teach') for one in theirs.split(',')],
            load_taxonomy(taxonomy).id_of(name, '--teach'))


def main() -> None:
    """Parse the command line and label."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('model', help='model folder')
    parser.add_argument('images', type=Path, help='folder of .jpg or .png')
    parser.add_argument('folder', type=Path, help='gets images/ and labels/')
    parser.add_argument('--rows', type=int, nargs='+', default=(300, 360, 450),
                        help='sizes at which a network of dynamic size looks '
                        '(default: %(default)s)')
    parser.add_argument('--height', type=int, default=360, help='of what is written, pixels')
    parser.add_argument('--least', type=float, default=0.5,
                        help='mean probability below which a pixel is void')
    parser.add_argument('--teach', metavar='CLASS=THEIRS[,THEIRS]',
                        help='label this class only, which goes by those names in the model')
    parser.add_argument('--taxonomy', default='camvid11', help='of that class')
    options = parser.parse_args()
    try:
        _label_all(options)
    except ConfigError as error:
        raise SystemExit(str(error)) from None


def _label_all(options: argparse.Namespace) -> None:
    card = load_card(options.model)
    head, dynamic = card.main_output, card.input.short_side is not None
    if head.kind not in ('logits', 'probabilities') or not (dynamic or options.teach):
        raise ConfigError(f'{card.directory} must be a network of dynamic size that gives logits '
                          'or probabilities; with --teach the size may be fixed')
    taught = _taught(options.teach, card, options.taxonomy) if options.teach else None
    rows = options.rows if dynamic else [None]
    backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=0)
    paths = sorted(path for path in options.images.glob('*')
                   if path.suffix in ('.jpg', '.png') and not path.name.startswith('.'))
    if not paths:
        raise ConfigError(f'{options.images} has no .jpg or .png files')
    for name in ('images', 'labels'):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
    for path in tqdm(paths, mininterval=10):
        image = read_picture(path)
        scale = options.height / image.shape[0]
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(options.folder / 'images' / f'{path.stem}.jpg'), image,
                    (cv2.IMWRITE_JPEG_QUALITY, 95))
        mean = mean_probabilities(card, backend, image, rows)
        labels = (label(mean, options.least) if taught is None
                  else label_one(mean, *taught, options.least))
        cv2.imwrite(str(options.folder / 'labels' / f'{path.stem}.png'), labels)


if __name__ == '__main__':
    main()
