"""
Fits a card's ``reference`` to clean pictures and to the same pictures spoilt.

No true labels are needed: the mask of the clean picture is what the mask of the spoilt one is
compared with. Pictures of any camera will do, as long as the model's masks of them are good.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..trust.evidence import BANDS, Evidence
from ..trust.judge import weigh
from ..trust.reference import BOUND, layout_difference, TERMS
from ..trust.verdict import State

CLEAN = 'clean'
BAD, GOOD = 0.7, 0.9  # IoU of the drivable area below and from which a mask counts as such
_CLEAN_WEIGHT = 4.0  # of a clean picture among the good ones: most of a camera's life
_RIDGE = 1.0


@dataclass(frozen=True)
class Sample:
    """
    One picture as the model saw it.

    :ivar kind: ``CLEAN``, or what was done to it.
    :ivar iou: of its drivable area with that of the clean picture.
    """

    kind: str
    iou: float
    evidence: Evidence


def fit_reference(samples: Sequence[Sample], classes: int) -> dict[str, Any]:
    """
    Return ``layout``, ``bias``, ``terms`` and ``usual`` as the card holds them.

    A logistic regression with a ridge, by Newton's method. Each kind of damage weighs by the
    square root of its number of bad masks; good and bad masks weigh the same in all.

    :param classes: number of classes of the labels.
    :raises ConfigError: too few good or bad masks to learn from.
    """
    clean = [sample for sample in samples if sample.kind == CLEAN]
    layout = _layout(clean, classes)
    rows = [(sample, figures) for sample in samples
            if (figures := _figures(sample, layout)) is not None]
    names = [name for name in TERMS if all(name in figures for _, figures in rows)]
    told = [(sample, figures) for sample, figures in rows
            if sample.iou < BAD or sample.iou >= GOOD]
    bad = np.array([sample.iou < BAD for sample, _ in told])
    if len(clean) < 8 or bad.sum() < 20 or (~bad).sum() < 20:
        raise ConfigError(f'{len(clean)} clean pictures, {int(bad.sum())} bad masks and '
                          f'{int((~bad).sum())} good ones are too few to learn from: give at '
                          'least 8 pictures, and all corruptions.')
    scaled = np.array([[TERMS[name].scale(figures[name]) for name in names]
                       for _, figures in told])
    weights = _weights([sample.kind for sample, _ in told], bad)
    usual = np.average(scaled, axis=0, weights=weights)
    spread = np.sqrt(np.average((scaled - usual) ** 2, axis=0, weights=weights)) + 1e-3
    bounded = np.clip((scaled - usual) / spread, -BOUND, BOUND)
    solution = _logistic(np.c_[bounded, np.ones(len(bounded))], bad, weights)
    return {
        'layout': [[round(float(share), 4) for share in band] for band in layout],
        'bias': round(float(solution[-1]), 3),
        'terms': {name: {'usual': round(float(usual[n]), 3), 'spread': round(float(spread[n]), 3),
                         'weight': round(float(solution[n]), 3)} for n, name in enumerate(names)},
        'usual': {name: _band([figures[name] for sample, figures in rows
                               if sample.kind == CLEAN]) for name in names}}


def _layout(clean: Sequence[Sample], classes: int) -> np.ndarray:
    """Return the mean share of each class in each band, (BANDS, classes) float64."""
    total = np.zeros((BANDS, classes))
    for sample in clean:
        counts = sample.evidence.bands[:, :classes].astype(np.float64)
        total += counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return total / np.maximum(total.sum(axis=1, keepdims=True), 1e-9)


def _figures(sample: Sample, layout: np.ndarray) -> Mapping[str, float] | None:
    """Return a sample's figures; None where the picture alone already tells."""
    if weigh(sample.evidence, None).state != State.OK:
        return None
    return sample.evidence.figures | {
        'layout': layout_difference(sample.evidence.bands, layout)}


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
