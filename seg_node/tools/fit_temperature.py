"""What ``evaluate --calibrate`` does: fits a model's temperature and writes it into its card."""

from collections.abc import Iterator
from dataclasses import replace
import hashlib
import os
import re

from ..devices import backend as backends
from ..devices.heads import channels_first
from ..devices.host import HostSegmenter
from ..errors import ConfigError, FrameError
from ..frame import Demand, StageClock
from ..model.card import load_card, ModelCard
from ..model.schema import parse_yaml
from ..model.taxonomy import UNLABELLED
from ..scoring.class_match import ClassMatch
from ..scoring.datasets import Dataset, Pair
from ..scoring.temperature import Fitted, LIMIT, TemperatureFit
from .backend_tap import BackendTap
from .console import progress

SEED = 0
#: Pictures that are looked at, spread over the data set: more tell hardly more.
PICTURES = 100


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


def fit(card: ModelCard, dataset: Dataset, scoring: ClassMatch, threads: int = 0,
        limit: float = LIMIT) -> Fitted:
    """
    Return the temperature for a model on a labelled data set; see ``TemperatureFit.result``.

    :raises ConfigError: when an image or label cannot be used, or there are too few.
    :raises BackendError: when the network cannot run.
    """
    tap = BackendTap(backends.load(backends.ONNX_RUNTIME, card, threads=threads))
    segmenter = HostSegmenter(card, tap)
    spec, index = card.main_output, card.outputs.index(card.main_output)
    counts = TemperatureFit(SEED)
    try:
        for pair in progress(dataset.pairs[::-(-len(dataset.pairs) // PICTURES)], 'calibrate'):
            truth = scoring.of_labels[dataset.truth(pair)]
            result = segmenter.segment([dataset.frame(pair)], Demand(None, False, False),
                                       StageClock())[0]
            if isinstance(result, FrameError):
                raise ConfigError(f'{pair.image} is refused: {result}. Mend it, or take the '
                                  'pair out.')
            if result.labels.shape != truth.shape:
                raise ConfigError(f'{pair.image} and its label {pair.label} differ in size.')
            maps = channels_first(spec, tap.last[index][0])
            rows = result.geometry.rows(maps.shape[1], spec.align_corners)
            columns = result.geometry.columns(maps.shape[2], spec.align_corners)
            counts.add(maps, rows, columns, result.labels,
                       scoring.of_model[result.labels] == truth, truth != UNLABELLED)
    finally:
        segmenter.close()
    return counts.result(limit)


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
