"""What ``evaluate --calibrate`` does: fits a model's temperature and writes it into its card."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
import hashlib
import os
import re

import cv2
import numpy as np

from ..devices import backend as backends
from ..devices.host import HostSegmenter
from ..devices.segmenter import Backend
from ..errors import ConfigError, FrameError
from ..frame import Demand, Frame, StageClock
from ..image.wire import Header, ImageMessage
from ..model.card import load_card, ModelCard
from ..model.schema import parse_yaml
from ..model.taxonomy import UNLABELLED
from ..scoring.class_match import ClassMatch
from ..scoring.corruptions import CORRUPTIONS
from ..scoring.datasets import Dataset, Pair
from ..scoring.temperature import CLEAN, Fitted, TemperatureFit
from .console import progress

SEED = 0
#: Pictures that are looked at, spread over the data set: more tell hardly more.
PICTURES = 100
#: The mildest of what happens to every camera; the truth stays as it is.
SPOILT = ('dark_0.4', 'overexposed_1.8', 'noise_15', 'jpeg_15', 'fog_0.1')
HALF = 'half the resolution'


@dataclass
class _Tap:
    """A backend that keeps what the network said last."""

    inner: Backend

    def __post_init__(self) -> None:
        self.description, self.device = self.inner.description, self.inner.device
        self.max_batch = self.inner.max_batch
        self.last: list[np.ndarray] = []

    def prepare(self, shape: tuple[int, ...]) -> None:
        self.inner.prepare(shape)

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        self.last = self.inner.run(tensor)
        return self.last

    def close(self) -> None:
        self.inner.close()


def check(card: ModelCard, fitted_on: Dataset, scored: Dataset) -> None:
    """
    Refuse before the work what would fail after it.

    :raises ConfigError: a model without logits, a card that cannot be written, or pictures that
        are both fitted on and scored.
    """
    spec = card.main_output
    if spec.kind != 'logits':
        raise ConfigError(f'--calibrate: output {spec.name} of {card.name} is {spec.kind}; a '
                          'temperature needs logits. Export the model without its last '
                          'softmax or ArgMax.')
    with_temperature(card, 1.5)
    if not os.access(card.path, os.W_OK):
        raise ConfigError(f'--calibrate writes the temperature into {card.path}, which cannot be '
                          'written: copy the model to a folder of your own and give that.')
    known = {_digest(pair): pair for pair in scored.pairs}
    for pair in fitted_on.pairs:
        if same := known.get(_digest(pair)):
            raise ConfigError(f'--calibrate: {pair.image} is fitted on, and the same picture as '
                              f'{same.image} is scored. What was fitted on says nothing: give '
                              'other pictures.')


def fit(card: ModelCard, dataset: Dataset, scoring: ClassMatch, threads: int = 0) -> Fitted:
    """
    Return the best temperature for a model on a labelled data set and spoilt copies of it.

    :raises ConfigError: when an image or label cannot be used, or there are too few.
    :raises BackendError: when the network cannot run.
    """
    tap = _Tap(backends.load(backends.ONNX_RUNTIME, card, threads=threads))
    segmenter = HostSegmenter(card, tap)
    spec, index = card.main_output, card.outputs.index(card.main_output)
    counts = TemperatureFit(SEED)
    try:
        for pair in progress(dataset.pairs[::-(-len(dataset.pairs) // PICTURES)], 'calibrate'):
            truth = scoring.of_labels[dataset.truth(pair)]
            for kind, frame in _kinds(pair, dataset.frame(pair)):
                result = segmenter.segment([frame], Demand(None, False, False), StageClock())[0]
                if isinstance(result, FrameError):
                    raise ConfigError(f'{pair.image} is refused: {result}. Mend it, or take the '
                                      'pair out.')
                if result.labels.shape != truth.shape:
                    raise ConfigError(f'{pair.image} and its label {pair.label} differ in size.')
                maps = tap.last[index][0]
                maps = maps if spec.layout == 'NCHW' else maps.transpose(2, 0, 1)
                rows = result.geometry.rows(maps.shape[1], spec.align_corners)
                columns = result.geometry.columns(maps.shape[2], spec.align_corners)
                counts.add(kind, maps, rows, columns, result.labels,
                           scoring.of_model[result.labels] == truth, truth != UNLABELLED)
    finally:
        segmenter.close()
    return counts.result()


def _kinds(pair: Pair, frame: Frame) -> Iterator[tuple[str, Frame]]:
    """Yield the picture as it is and, one for each kind, spoilt."""
    try:
        image = frame.bgr
    except FrameError as error:
        raise ConfigError(f'{pair.image} is refused: {error}. Mend it, or take the pair '
                          'out.') from error
    yield CLEAN, frame
    kinds: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        name: partial(CORRUPTIONS[name].apply, key=pair.name, seed=SEED) for name in SPOILT}
    for kind, spoil in (kinds | {HALF: _halved}).items():
        spoilt = spoil(image)
        height, width = spoilt.shape[:2]
        message = ImageMessage(Header(0, 0, pair.name), height, width, 'bgr8', False, 3 * width,
                               spoilt.reshape(-1))
        yield kind, Frame(pair.name, message)


def _halved(image: np.ndarray) -> np.ndarray:
    """Return the picture as a camera of half the resolution would see it."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, width // 2), max(1, height // 2)),
                       interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def tempered(card: ModelCard, temperature: float) -> ModelCard:
    """Return the card with another temperature of its main output."""
    main = replace(card.main_output, temperature=temperature)
    return replace(card, outputs=tuple(main if output == card.main_output else output
                                       for output in card.outputs))


def write_temperature(card: ModelCard, temperature: float) -> None:
    """
    Write the temperature of the main output into the card's file, leaving all else as it is.

    :raises ConfigError: when it cannot be written.
    """
    try:
        card.path.write_text(with_temperature(card, temperature), encoding='utf-8')
    except OSError as error:
        raise ConfigError(f'{card.path} cannot be written: {error.strerror}. Write temperature: '
                          f'{temperature} beside kind: logits yourself.') from error
    load_card(card.path)


def with_temperature(card: ModelCard, temperature: float) -> str:
    """
    Return the text of the card's file with a temperature of its main output.

    :raises ConfigError: the file is written in a way in which the place is not found.
    """
    text = card.path.read_text(encoding='utf-8')
    index = card.outputs.index(card.main_output)
    wanted = parse_yaml(text, str(card.path))
    wanted['outputs'][index]['temperature'] = temperature
    for changed in _edits(text, temperature):
        try:
            if parse_yaml(changed, str(card.path)) == wanted:
                return changed
        except ConfigError:  # a second temperature beside the first
            continue
    raise ConfigError(f'{card.path}: outputs[{index}] is written in a way in which the place '
                      f'is not found. Write temperature: {temperature} there yourself.')


def _edits(text: str, temperature: float) -> Iterator[str]:
    """Yield texts with each temperature replaced, then with one beside each kind: logits."""
    for found in re.finditer(r'\b(temperature:) *[^\s,}#]+', text):
        yield f'{text[:found.start()]}{found[1]} {temperature}{text[found.end():]}'
    for found in re.finditer(r'(?m)^( *(?:- +)?)kind: *logits\b.*\n', text):
        line = f'{" " * len(found[1])}temperature: {temperature}\n'
        yield text[:found.end()] + line + text[found.end():]
    for found in re.finditer(r'\bkind: *logits\b', text):  # in a {mapping} of one line
        yield f'{text[:found.end()]}, temperature: {temperature}{text[found.end():]}'


def _digest(pair: Pair) -> str:
    try:
        return hashlib.sha256(pair.image.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f'{pair.image} cannot be read: {error.strerror}. Mend it, or take the '
                          'pair out.') from error

