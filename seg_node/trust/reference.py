"""
What is usual for a model: the card's ``reference``, and the rule that weighs a frame against it.

The rule is linear. Each term is a figure of the frame, brought to a scale on which good and bad
masks lie apart, counted in spreads from its usual value and bounded, so that no single figure can
outvote all others. The sum is the logarithm of the odds that the mask is badly wrong.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..model.card import ModelCard
from .evidence import BANDS, Evidence

_LITTLE = 0.02  # share of the mask that hardly counts
BOUND = 4.0  # spreads that a term can count at most
_SEEN, _USUAL = 1e-3, 1e-2  # added to shares of a class in a band: in the frame, in the reference


@dataclass(frozen=True)
class Term:
    """
    How a figure enters the rule.

    :ivar scale: from the figure to the scale that is weighed.
    :ivar about: what it says, for people.
    """

    scale: Callable[[float], float]
    about: str


TERMS: Mapping[str, Term] = {
    'drivable_confidence': Term(lambda value: math.log(1.003 - min(value, 1.0)),
                                'confidence inside the drivable area'),
    'layout': Term(lambda value: math.log(value + 0.02),
                   'difference of the classes, from top to bottom, from the usual ones'),
    'edges': Term(lambda value: value, 'agreement of the mask with edges of the picture'),
    'drivable_afloat': Term(lambda value: math.log(value + 0.01),
                            'what is not drivable below the drivable area'),
    'borders': Term(lambda value: math.log(value + 0.005), 'share of borders between classes'),
    'drivable_unusual': Term(lambda value: value, 'drivable area by how many times larger or '
                             'smaller than usual, as a logarithm,'),
}


@dataclass(frozen=True)
class Weighed:
    """One term's part in the rule: ``usual`` and ``spread`` on the term's scale."""

    usual: float
    spread: float
    weight: float

    def part(self, value: float) -> float:
        """Return what a value on the term's scale adds to the sum."""
        return self.weight * min(max((value - self.usual) / self.spread, -BOUND), BOUND)


@dataclass(frozen=True)
class Reference:
    """
    The usual figures of a model, and the rule fitted with them.

    :ivar layout: (BANDS, n) float64, share of each class in each band from top to bottom.
    :ivar drivable: share of the mask that is drivable; None = not known.
    :ivar terms: by name in ``TERMS``.
    :ivar bias: what the sum starts from; above 0 a mask is doubtful.
    :ivar usual: by figure, the least and the greatest value of 98 % of good masks, for messages.
    """

    layout: np.ndarray
    drivable: float | None
    terms: Mapping[str, Weighed]
    bias: float
    usual: Mapping[str, tuple[float, float]]

    def figures(self, evidence: Evidence) -> dict[str, float]:
        """Return the figures of a frame with those that need the reference."""
        return evidence.figures | compared(evidence, self.layout, self.drivable)

    def parts(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return what each term adds to the sum."""
        return {name: entry.part(TERMS[name].scale(figures[name]))
                for name, entry in self.terms.items()}


def compared(evidence: Evidence, layout: np.ndarray, drivable: float | None) -> dict[str, float]:
    """Return the figures of a frame that say how far it is from the usual ones."""
    found = {'layout': layout_difference(evidence.bands, layout)}
    if drivable is not None:
        found['drivable_unusual'] = abs(math.log(
            (evidence.figures['drivable'] + _LITTLE) / (drivable + _LITTLE)))
    return found


def layout_difference(bands: np.ndarray, usual: np.ndarray) -> float:
    """
    Return how far the classes of a frame differ from the usual ones.

    The Kullback-Leibler divergence in nats of the frame's classes from the usual ones, both
    smoothed, averaged over the bands that have labels at all.

    :param bands: (BANDS, 256) counts.
    :param usual: (BANDS, n) shares.
    """
    counts = bands[:, :usual.shape[1]].astype(np.float64)
    known = counts.sum(axis=1) > 0
    if not known.any():
        return 0.0
    seen = _smooth(counts[known] / counts[known].sum(axis=1, keepdims=True), _SEEN)
    return float((seen * np.log(seen / _smooth(usual[known], _USUAL))).sum(axis=1).mean())


def _smooth(shares: np.ndarray, extra: float) -> np.ndarray:
    return (shares + extra) / (1 + extra * shares.shape[1])


def _layout(rows: list[list[float]], path: Path, mend: str) -> np.ndarray:
    if len({len(row) for row in rows}) != 1:
        raise ConfigError(f'{path}: the rows of reference.layout have '
                          f'{", ".join(str(len(row)) for row in rows)} shares; all must have one '
                          f'for each class. {mend}.')
    return np.array(rows, np.float64)


def load_reference(card: ModelCard) -> Reference | None:
    """
    Return the reference in a model's card, None when it has none.

    :raises ConfigError: it is of another class table, or its figures are out of order.
    """
    raw: dict[str, Any] | None = card.raw.get('reference')
    if raw is None:
        return None
    mend = ('Write it anew: python -m seg_node.tools.reference --model '
            f'{card.directory} --images FOLDER')
    table = card.main_output.classes
    layout = _layout(raw['layout'], card.path, mend)
    if raw['classes'] != table.name or layout.shape != (BANDS, len(table)):
        raise ConfigError(f'{card.path}: reference is for the class table {raw["classes"]!r} with '
                          f'{layout.shape[-1]} classes, but the labels are of {table.name!r} with '
                          f'{len(table)}. {mend}.')
    if not np.allclose(layout.sum(axis=1), 1, atol=0.02) or layout.min() < 0:
        raise ConfigError(f'{card.path}: reference.layout must have {BANDS} rows of shares that '
                          f'add up to 1; they add up to {layout.sum(axis=1).round(3).tolist()}. '
                          f'{mend}.')
    if not raw['terms']:
        raise ConfigError(f'{card.path}: reference.terms is empty; at least one of '
                          f'{", ".join(TERMS)} is needed to tell a mask by. {mend}.')
    for name in raw['terms']:
        if name not in raw['usual']:
            raise ConfigError(f'{card.path}: reference.usual has no {name}, but reference.terms '
                              f'has: both must name the same figures. {mend}.')
    for name, (low, high) in raw['usual'].items():
        if not low <= high:
            raise ConfigError(f'{card.path}: reference.usual.{name} is [{low}, {high}]; the '
                              f'first must not be above the second. {mend}.')
    if 'drivable' not in raw and 'drivable_unusual' in raw['terms']:
        raise ConfigError(f'{card.path}: reference.terms has drivable_unusual, but there is no '
                          f'reference.drivable that it compares with. {mend}.')
    return reference_of(raw)


def reference_of(raw: Mapping[str, Any]) -> Reference:
    """Return a reference from what a card holds of it, unchecked."""
    return Reference(np.array(raw['layout'], np.float64), raw.get('drivable'),
                     {name: Weighed(**entry) for name, entry in raw['terms'].items()},
                     float(raw['bias']), {name: (float(low), float(high))
                                          for name, (low, high) in raw['usual'].items()})
