"""
How often a model's mask is badly wrong without the judgement noticing.

Each frame is judged by itself, as if it were the only one: over time a camera's state can only be
slower, not better.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError, FrameError
from ..frame import Frame, Products, StageClock
from ..image.wire import Header, ImageMessage
from ..model.taxonomy import UNLABELLED
from ..pipeline import Pipeline
from ..trust.verdict import State
from .corruptions import Corruption
from .datasets import Dataset, Pair

CLEAN = 'clean'
BAD, GOOD, SPILL = 0.7, 0.9, 0.05
WANTED = ('drivable', 'confidence')


@dataclass(frozen=True)
class Outcome:
    """
    One judged frame.

    :ivar kind: what was done to it; ``CLEAN``: nothing.
    :ivar iou: of its drivable area with the true one; 1 if neither exists.
    :ivar spill: share of what is not road that is called drivable.
    """

    kind: str
    picture: str
    iou: float
    spill: float
    state: State
    reason: str = ''

    @property
    def bad(self) -> bool:
        """Whether the mask is badly wrong."""
        return self.iou < BAD

    @property
    def unsafe(self) -> bool:
        """Whether it is badly wrong and would lead a car off the road."""
        return self.bad and self.spill > SPILL

    @property
    def alarmed(self) -> bool:
        """Whether the judgement told."""
        return self.state != State.OK


#: Gets each judged frame: outcome, picture (H, W, 3) uint8 BGR, drivable area (H, W) uint8.
Show = Callable[[Outcome, np.ndarray, np.ndarray], None]


def stress(pipeline: Pipeline, dataset: Dataset, pairs: Iterable[Pair],
           corruptions: Sequence[Corruption], seed: int, show: Show) -> Iterator[Outcome]:
    """
    Judge pictures as they are and with each corruption.

    :param pipeline: with a judgement that publishes what it doubts, too, so that the mask itself
        is compared.
    :raises ConfigError: a picture or its label cannot be used.
    """
    flags = dataset.table.drivable_lut()
    for pair in pairs:
        image, labels = dataset.frame(pair).bgr, dataset.truth(pair)
        for corruption in (None, *corruptions):
            spoilt, truth = image, labels
            if corruption is not None:
                spoilt, truth = corruption.apply(image, pair.name, seed), corruption.turn(labels)
            products = process(pipeline, spoilt, pair.name)
            area = products.images['drivable']
            if area.shape != truth.shape:
                sizes = [f'{width}x{height}' for height, width in (area.shape, truth.shape)]
                raise ConfigError(f'{pair.image} is {sizes[0]}, but its label {pair.label} is '
                                  f'{sizes[1]}: they must have one size.')
            standing = products.standing
            assert standing is not None
            outcome = Outcome(CLEAN if corruption is None else corruption.name, pair.name,
                              *compare(area > 0, flags[truth] > 0, truth != UNLABELLED),
                              standing.verdict.state, standing.verdict.reason)
            show(outcome, spoilt, area)
            yield outcome


def process(pipeline: Pipeline, image: np.ndarray, name: str) -> Products:
    """
    Send one picture, (H, W, 3) uint8 BGR, down the product's own road.

    :raises ConfigError: it is refused.
    """
    height, width = image.shape[:2]
    data = np.ascontiguousarray(image)
    frame = Frame('stress', ImageMessage(Header(0, 0, name), height, width, 'bgr8', False,
                                         width * 3, data.reshape(-1)))
    result = pipeline.process([frame], [WANTED], StageClock())[0]
    if isinstance(result, FrameError):
        raise ConfigError(f'{name} ({width}x{height}) is refused: {result}. Mend it, or take it '
                          'out.')
    return result


def compare(area: np.ndarray, truth: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """
    Return the IoU of a drivable area, and how much of what is not road it covers.

    All (H, W) bool; what is not ``known`` counts nowhere.
    """
    area, truth, other = area & known, truth & known, ~truth & known
    both, either, spilt, rest = (int(np.count_nonzero(part)) for part in (
        area & truth, area | truth, area & other, other))
    return both / either if either else 1.0, spilt / max(1, rest)


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """
    Return the figures as ``--json`` writes them.

    Rates are means over the kinds of damage that made any mask bad (or unsafe), so that no kind
    counts more than another; None where there was none. False alarms are counted on the pictures
    as they are. ``worst`` is the kind that is told least often.
    """
    spoilt = [outcome for outcome in outcomes if outcome.kind != CLEAN]
    kinds: dict[str, list[Outcome]] = {}
    for outcome in spoilt:
        kinds.setdefault(outcome.kind, []).append(outcome)
    by_corruption = {kind: {'iou': _mean(entry.iou for entry in group),
                            'silent': _silent(entry for entry in group if entry.bad),
                            'alarmed': _mean(entry.alarmed for entry in group)}
                     for kind, group in kinds.items()}
    silent = {kind: entry['silent'] for kind, entry in by_corruption.items()
              if entry['silent'] is not None}
    unsafe = [_silent(entry for entry in group if entry.unsafe) for group in kinds.values()]
    return {
        'silent_rate': _mean(silent.values()),
        'unsafe_silent_rate': _mean(value for value in unsafe if value is not None),
        'false_alarm_rate': _mean(entry.alarmed for entry in outcomes
                                  if entry.kind == CLEAN and entry.iou >= GOOD),
        'by_corruption': by_corruption,
        'worst': max(silent, key=lambda kind: silent[kind] or 0.0) if silent else None,
        'frames': len(spoilt),
        'bad': sum(entry.bad for entry in spoilt)}


def _silent(bad: Iterable[Outcome]) -> float | None:
    return _mean(not outcome.alarmed for outcome in bad)


def _mean(values: Iterable[float | None]) -> float | None:
    listed = [float(value) for value in values if value is not None]
    return round(sum(listed) / len(listed), 5) if listed else None
