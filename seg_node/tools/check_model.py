"""
Check a model of one's own: python -m seg_node.tools.check_model FOLDER [PICTURE...].

Everything that the node would refuse is refused here; then the network runs on pictures, and what
is implausible in its card is told: a normalisation of the wrong scale, swapped colours. Writes a
picture with the class colours over each, and tells what a frame costs.

Ends with 0 if nothing is wrong, 1 with warnings, 2 if the node would refuse the model.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
import statistics
import sys

import cv2
import numpy as np

from ..devices import backend as backends
from ..devices.checked import test_pictures
from ..devices.choose import NAMES, ONNX_RUNTIME, Wish
from ..devices.heads import channels_first
from ..devices.host import HostSegmenter
from ..errors import ConfigError, FrameError, SegNodeError
from ..frame import Demand, Frame, StageClock
from ..geometry import fit, Size
from ..gpu.suits import check_heads
from ..image.wire import Header, ImageMessage
from ..model.card import ModelCard
from ..model.policy import DrivablePolicy
from ..model.taxonomy import ClassTable, UNLABELLED
from ..pipeline import Pipeline
from ..preprocess import Preprocessor
from ..running.loading import PipelineSpec
from ..scoring.picture_file import read_picture
from ..scoring.pictures import caption, contact_sheet, Painter
from ..scoring.plausibility import (
    contradictions,
    one_sided,
    read,
    Reader,
    Reading,
    strange_values,
    suspicions,
    variants,
)
from ..trust.verdict import Standing, State

_MOST_PICTURES = 12
_WANTED = ('mask', 'overlay', 'drivable', 'confidence')


def main(args: Sequence[str] | None = None) -> int:
    """Check a model from the command line."""
    options = _parser().parse_args(args)
    try:
        warnings = check(options)
    except (SegNodeError, OSError) as error:
        print(f'check_model: {error}', file=sys.stderr)
        return 2
    for warning in warnings:
        print(f'WARNING: {warning}')
    return 1 if warnings else 0


def check(options: argparse.Namespace) -> list[str]:
    """
    Check the model and write its picture; return what looks wrong.

    :raises SegNodeError: what the node would refuse.
    """
    if not (cv2.haveImageWriter(str(options.out)) and options.out.parent.is_dir()):
        raise ConfigError(f'--out {options.out} cannot be written. Name a .jpg or .png in a '
                          'folder that is there.')
    pictures = _pictures(options.pictures)
    spec = PipelineSpec.check(str(options.model), Wish(options.backend, threads=options.threads),
                              taxonomy=options.taxonomy)
    card = spec.card
    loaded = spec.open()
    try:
        print(f'{card.name} fits its card and runs: {loaded.pipeline.segmenter.description}')
        tiles = [_shown(loaded.pipeline, picture, name) for name, picture in pictures]
    finally:
        loaded.pipeline.segmenter.close()
    _draw(options.out, card, loaded.pipeline.classes, tiles)
    print(f'TensorRT: {_tensorrt(card)}')
    return [*contradictions(card.input), *_plausible(card, [image for _, image in pictures[:3]])]


def _shown(pipeline: Pipeline, picture: np.ndarray, name: str) -> np.ndarray:
    """Run a picture, print what is seen in it and what it costs, and return its overlay."""
    times = []
    for _ in range(3):
        clock = StageClock()
        [products] = pipeline.process([_frame(picture, name)], [_WANTED], clock)
        times.append(sum(clock.ms.values()))
    if isinstance(products, FrameError):
        raise ConfigError(f'{name} is refused: {products}')
    mask, sure = products.images['mask'], products.images.get('confidence')
    shares = np.bincount(mask.reshape(-1), minlength=256) / mask.size
    table = {entry.id: entry.name for entry in pipeline.classes.classes} | {
        UNLABELLED: 'unlabelled'}
    seen = ', '.join(f'{table.get(int(n), n)} {shares[n]:.0%}'
                     for n in np.argsort(-shares)[:6] if shares[n] >= 0.005)
    print(f'{name}: {seen}; drivable {(products.images["drivable"] > 0).mean():.0%}'
          + (f', confidence {sure.mean() / 255:.2f}' if sure is not None else '')
          + f'; {statistics.median(times):.0f} ms a frame, network '
          f'{products.geometry.network}{_judged(products.standing)}')
    overlay = products.images['overlay']
    width = 480
    small = cv2.resize(overlay, (width, round(width * overlay.shape[0] / overlay.shape[1])),
                       interpolation=cv2.INTER_AREA)
    return np.vstack([caption(Path(name).name, width), small])


def _judged(standing: Standing | None) -> str:
    """Return what the node thinks of a picture, where it does not believe its mask."""
    if standing is None or standing.verdict.state == State.OK:
        return ''
    withheld = ', so its mask is withheld' if standing.withheld else ''
    return f'; judged {standing.verdict.state}{withheld}: {standing.verdict.reason}'


def _draw(path: Path, card: ModelCard, classes: ClassTable, tiles: list[np.ndarray]) -> None:
    height = max(tile.shape[0] for tile in tiles)
    even = [cv2.copyMakeBorder(tile, 0, height - tile.shape[0], 0, 0, cv2.BORDER_CONSTANT)
            for tile in tiles]
    sheet = contact_sheet(f'{card.name}: what it sees', even, Painter(classes),
                          min(3, len(even)))
    if not cv2.imwrite(str(path), sheet):
        raise ConfigError(f'--out {path} cannot be written: is the disk full, or the folder '
                          'read-only?')
    print(f'overlay: {path}')


def _tensorrt(card: ModelCard) -> str:
    try:
        check_heads(card)
    except ConfigError as error:
        return f'no. {error}'
    return ('its kernels know all of this card; python -m seg_node.tools.build_engine builds and '
            'compares the engine')


def _plausible(card: ModelCard, pictures: list[np.ndarray]) -> list[str]:
    backend = backends.load(ONNX_RUNTIME, card, threads=0)
    try:
        return [*_strange(card, backend, pictures), *_better(card, backend, pictures)]
    finally:
        backend.close()


def _strange(card: ModelCard, backend: backends.Backend, pictures: list[np.ndarray]) -> list[str]:
    """Return what is strange in the network's own outputs and in their masks."""
    reader = _reader(card, backend)
    counts = np.sum([np.bincount(reader(picture)[0].ravel(), minlength=256)
                     for picture in pictures], axis=0)
    classes, policy = card.main_output.classes, DrivablePolicy(card)
    names = dict(enumerate(classes.names)) | {UNLABELLED: 'unlabelled'}
    shares = {names[n]: float(counts[n] / counts.sum()) for n in np.flatnonzero(counts).tolist()}
    found = one_sided(shares, policy.lut[:len(policy.output.classes)])
    geometry = fit(card.input, Size(*pictures[0].shape[:2]))
    tensor = Preprocessor(card.input).tensor([pictures[0]], [geometry])
    for spec, values in zip(card.outputs, backend.run(tensor), strict=True):
        found += strange_values(spec, channels_first(spec, values[0]), geometry.network)
    return found


def _better(card: ModelCard, backend: backends.Backend, pictures: list[np.ndarray]) -> list[str]:
    """Return which other normalisations and orders of colours make more sense."""
    if card.main_output.kind == 'labels':
        return []  # without a confidence nothing can be compared
    own = read(_reader(card, backend), pictures)
    others: dict[str, Reading] = {}
    for change, spec in variants(card.input).items():
        others[change] = read(_reader(replace(card, input=spec), backend), pictures)
    return suspicions(own, others)


def _reader(card: ModelCard, backend: backends.Backend) -> Reader:
    segmenter = HostSegmenter(card, backend)

    def reader(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        [result] = segmenter.segment([_frame(picture)], Demand(drivable=False), StageClock())
        if isinstance(result, FrameError):  # such a variant makes no sense at all
            return (np.full(picture.shape[:2], UNLABELLED, np.uint8),
                    np.zeros(picture.shape[:2], np.uint8))
        sure = result.confidence
        return result.labels, np.zeros_like(result.labels) if sure is None else sure
    return reader


def _frame(picture: np.ndarray, camera: str = '') -> Frame:
    """Return a picture as a frame; those of one camera are judged as following one another."""
    height, width = picture.shape[:2]
    return Frame(camera, ImageMessage(Header(0, 0, ''), height, width, 'bgr8', False, width * 3,
                                  np.ascontiguousarray(picture).reshape(-1)))


def _pictures(paths: Sequence[Path]) -> list[tuple[str, np.ndarray]]:
    """Return names and pictures, BGR; those that are shipped if none are given."""
    if not paths:
        return [(f'shipped {n}', image) for n, image in enumerate(test_pictures(), 1)][:3]
    if len(paths) > _MOST_PICTURES:
        print(f'the first {_MOST_PICTURES} of {len(paths)} pictures are taken')
    return [(str(path), read_picture(path)) for path in paths[:_MOST_PICTURES]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='check_model', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('model', type=Path, help='folder with model.onnx and card.yaml, or the path of a card')
    add('pictures', type=Path, nargs='*', help='pictures of your camera (default: shipped ones)')
    add('--out', type=Path, default=Path('check.jpg'), help='picture that is written (default: '
        '%(default)s)')
    add('--taxonomy', default='', help='class table that the node is to publish in')
    add('--backend', choices=NAMES, default=ONNX_RUNTIME, help='(default: %(default)s)')
    add('--threads', type=int, default=0, help='of the network on the CPU; 0 = one a core')
    return parser


if __name__ == '__main__':
    sys.exit(main())
