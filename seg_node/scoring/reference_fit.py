"""
Fits a card's ``reference`` to clean pictures and to the same pictures spoilt.

No true labels are needed: the mask of the clean picture is what the mask of the spoilt one is
compared with. Pictures of any camera will do, as long as the model's masks of them are good.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..trust.evidence import BANDS, Evidence
from ..trust.judge import weigh
from ..trust.reference import BOUND, compared, reference_of, TERMS
from ..trust.verdict import State

CLEAN = 'clean'
BAD, GOOD = 0.7, 0.9  # IoU of the drivable area below and from which a mask counts as such
_CLEAN_WEIGHT = 4.0  # of a clean picture among the good ones: most of a camera's life
_RIDGE = 1.0
FALSE_ALARMS = 0.01  # share of clean pictures that may be called doubtful
_FOLDS = 5
_LEAST = -math.log(3)  # log of the odds below which no mask is called doubtful


@dataclass(frozen=True)
class Sample:
    """
    One picture as the model saw it.

    :ivar picture: what it is made of; pictures of one street lie side by side.
    :ivar kind: ``CLEAN``, or what was done to it.
    :ivar iou: of its drivable area with that of the clean picture.
    """

    picture: str
    kind: str
    iou: float
    evidence: Evidence


def fit_reference(samples: Sequence[Sample], classes: int) -> dict[str, Any]:
    """
    Return ``layout``, ``drivable``, ``bias``, ``terms`` and ``usual`` as the card holds them.

    A logistic regression with a ridge, by Newton's method. Each kind of damage weighs by the
    square root of its number of bad masks; good and bad masks weigh the same in all. Then the
    bias is set for ``FALSE_ALARMS``, see ``operating_point``.

    :param classes: number of classes of the labels.
    :raises ConfigError: too few good or bad masks to learn from.
    """
    spoilt = len({sample.picture for sample in samples if sample.kind != CLEAN})
    open_ones = [sample for sample in samples if _is_open(sample)]
    bad = sum(sample.iou < BAD for sample in open_ones)
    good = sum(sample.iou >= GOOD for sample in open_ones)
    if spoilt < 8 or bad < 20 or good < 20:
        raise ConfigError(f'{spoilt} spoilt pictures, {bad} bad masks and {good} good ones are '
                          'too few to learn from: give at least 8 pictures, and all corruptions.')
    found = _fit(samples, classes)
    return found | {'bias': round(found['bias'] - operating_point(held_out(samples, classes)), 3)}


def held_out(samples: Sequence[Sample], classes: int) -> np.ndarray:
    """
    Return the doubt about each clean picture by a rule fitted without it and those beside it.

    Those that are told by the picture alone are left out: no rule changes that.
    """
    pictures = list(dict.fromkeys(sample.picture for sample in samples))
    doubts = []
    for fold in np.array_split(np.array(pictures), _FOLDS):
        out = set(fold.tolist())
        rule = reference_of(_fit([sample for sample in samples if sample.picture not in out],
                                 classes))
        doubts += [verdict.figures['doubt'] for sample in samples
                   if sample.kind == CLEAN and sample.picture in out
                   and 'doubt' in (verdict := weigh(sample.evidence, rule)).figures]
    return np.array(doubts)


def operating_point(doubts: np.ndarray) -> float:
    """
    Return the log of the odds from which on a mask is doubtful.

    It is where ``FALSE_ALARMS`` of the clean pictures held out are. Never above even odds: masks
    of clean pictures can be wrong, too. Not below where pictures are too few to see so small a
    share, and never below one to three: a street like all others says nothing of the next one.

    :param doubts: as of ``held_out``.
    """
    allowed = math.floor(FALSE_ALARMS * len(doubts))
    return float(np.clip(np.sort(doubts)[-1 - allowed], _LEAST, 0)) if allowed else 0.0


def _fit(samples: Sequence[Sample], classes: int) -> dict[str, Any]:
    clean = [sample for sample in samples if sample.kind == CLEAN]
    layout = _layout(clean, classes)
    drivable = round(float(np.median([sample.evidence.figures['drivable']
                                      for sample in clean])), 4)
    rows = [(sample, sample.evidence.figures | compared(sample.evidence, layout, drivable))
            for sample in samples if _is_open(sample)]
    names = [name for name in TERMS if all(name in figures for _, figures in rows)]
    told = [(sample, figures) for sample, figures in rows
            if sample.iou < BAD or sample.iou >= GOOD]
    bad = np.array([sample.iou < BAD for sample, _ in told])
    scaled = np.array([[TERMS[name].scale(figures[name]) for name in names]
                       for _, figures in told])
    weights = _weights([sample.kind for sample, _ in told], bad)
    usual = np.average(scaled, axis=0, weights=weights)
    spread = np.sqrt(np.average((scaled - usual) ** 2, axis=0, weights=weights)) + 1e-3
    bounded = np.clip((scaled - usual) / spread, -BOUND, BOUND)
    solution = _logistic(np.c_[bounded, np.ones(len(bounded))], bad, weights)
    return {
        'layout': [[round(float(share), 4) for share in band] for band in layout],
        'drivable': drivable,
        'bias': round(float(solution[-1]), 3),
        'terms': {name: {'usual': round(float(usual[n]), 3), 'spread': round(float(spread[n]), 3),
                         'weight': round(float(solution[n]), 3)} for n, name in enumerate(names)},
        'usual': {name: _band([figures[name] for sample, figures in rows
                               if sample.kind == CLEAN]) for name in names}}


def _is_open(sample: Sample) -> bool:
    """Return whether the picture alone does not tell."""
    return weigh(sample.evidence, None).state == State.OK


def _layout(clean: Sequence[Sample], classes: int) -> np.ndarray:
    """Return the mean share of each class in each band, (BANDS, classes) float64."""
    total = np.zeros((BANDS, classes))
    for sample in clean:
        counts = sample.evidence.bands[:, :classes].astype(np.float64)
        total += counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return total / np.maximum(total.sum(axis=1, keepdims=True), 1e-9)


def _weights(kinds: Sequence[str], bad: np.ndarray) -> np.ndarray:
    count = Counter(kind for kind, is_bad in zip(kinds, bad, strict=True) if is_bad)
    weights = np.array([1 / math.sqrt(count[kind]) if is_bad
                        else _CLEAN_WEIGHT if kind == CLEAN else 1.0
                        for kind, is_bad in zip(kinds, bad, strict=True)])
    for side in (bad, ~bad):
        weights[side] *= len(kinds) / 2 / weights[side].sum()
    return weights


def _logistic(rows: np.ndarray, bad: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weights of the columns of ``rows``, the last of which is constant."""
    solution = np.zeros(rows.shape[1])
    ridge = np.full(rows.shape[1], _RIDGE)
    ridge[-1] = 1e-9
    for _ in range(100):
        odds = 1 / (1 + np.exp(-rows @ solution))
        slope = rows.T @ (weights * (odds - bad)) + ridge * solution
        curve = (rows.T * (weights * odds * (1 - odds))) @ rows + np.diag(ridge)
        step = np.clip(np.linalg.solve(curve, slope), -2, 2)
        solution -= step
        if np.abs(step).max() < 1e-9:
            break
    return solution


def _band(values: Sequence[float]) -> list[float]:
    return [round(float(np.percentile(values, percent)), 4) for percent in (1, 99)]
