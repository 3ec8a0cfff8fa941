"""The frames of a labelled data set through the pipeline, and everything counted over them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
import statistics
import time
from typing import Any

import numpy as np

from ..errors import ConfigError, FrameError
from ..frame import Frame, Products, StageClock
from ..image.wire import Header
from ..model.taxonomy import UNLABELLED
from ..pipeline import Pipeline
from .class_match import ClassMatch, LANE_TABLE
from .datasets import Dataset, Pair
from .flicker import Flicker
from .id_reading import IdReading
from .metrics import BinaryIoU, ConfusionMatrix, ExpectedCalibrationError
from .worst_frames import ScoredFrame, WorstFrames

CAMERA = 'sequence'
#: Of the confidence, from which on the share of wrong drivable pixels is told.
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class Head:
    """
    The output of the model that is scored.

    :ivar role: of the output in the card.
    :ivar image: the product that shows it.
    :ivar drivable: (256,) uint8, 255 for values of that image that are drivable; None = the
        output knows nothing of that.
    :ivar sure: whether the confidence that is published is this output's.
    :ivar other_drivable: whether the model has a drivable head beside it.
    """

    role: str
    image: str
    drivable: np.ndarray | None
    sure: bool
    other_drivable: bool = False


@dataclass
class Tally:
    """Everything that is counted over the frames."""

    confusion: ConfusionMatrix
    drivable: BinaryIoU
    calibration: ExpectedCalibrationError
    trusted: ExpectedCalibrationError  # of the pixels that are called drivable
    times_ms: list[float]
    void_pixels: int
    worst: WorstFrames
    flicker: Flicker | None = None
    drivable_head: BinaryIoU = field(default_factory=BinaryIoU)  # another mask than the scored one
    ids: IdReading | None = None

    def merge(self, later: 'Tally') -> None:
        """Add what was counted over frames that come after these, and are no sequence."""
        self.confusion.merge(later.confusion)
        self.drivable.merge(later.drivable)
        self.calibration.merge(later.calibration)
        self.trusted.merge(later.trusted)
        self.times_ms += later.times_ms
        self.void_pixels += later.void_pixels
        self.worst.merge(later.worst)
        self.drivable_head.merge(later.drivable_head)
        if self.ids is not None and later.ids is not None:
            self.ids.merge(later.ids)


def run(pipeline: Pipeline, dataset: Dataset, scoring: ClassMatch, head: Head, worst: int = 0,
        rate_hz: float | None = None,
        shown: Callable[[Iterable[Pair]], Iterable[Pair]] = iter) -> Tally:
    """
    Segment every image of a data set and count how its mask compares with the label.

    :param head: the output that is scored.
    :param worst: how many of the worst frames to keep with their pictures.
    :param rate_hz: the pairs are the frames of a sequence, so many a second; None = they are not.
    :param shown: passes the pairs on and shows how far they are.
    :raises ConfigError: when an image or label cannot be used; then there is no result at all.
    :raises BackendError: when the device fails.
    """
    tally = Tally(ConfusionMatrix(scoring.classes, scoring.measurable), BinaryIoU(),
                  ExpectedCalibrationError(), ExpectedCalibrationError(), [], 0,
                  WorstFrames(worst), None if rate_hz is None else Flicker(rate_hz))
    if scoring.classes == dataset.table:
        tally.ids = IdReading(dataset.table)
    flags = dataset.table.drivable_lut()
    for index, pair in enumerate(shown(dataset.pairs)):
        frame, raw = dataset.frame(pair), dataset.raw(pair)
        labels = dataset.meaning(raw, pair)
        if rate_hz is not None:
            frame = _at(frame, round(index * 1e9 / rate_hz))
        products, ms = _segment(pipeline, pair, frame, labels, head)
        tally.times_ms.append(ms)
        own = products.images[head.image]
        truth, mask = scoring.of_labels[labels], scoring.of_model[own]
        known = truth != UNLABELLED
        tally.void_pixels += int(np.count_nonzero(~known))
        here = ConfusionMatrix(scoring.classes, scoring.measurable)
        here.add(truth, mask)
        tally.confusion.merge(here)
        area = (np.zeros(own.shape, bool) if head.drivable is None else head.drivable[own] > 0)
        if head.drivable is not None:
            tally.drivable.add(flags[labels], area, labels != UNLABELLED)
        if head.other_drivable:
            tally.drivable_head.add(flags[labels], products.images['drivable'],
                                    labels != UNLABELLED)
        if tally.ids is not None:
            tally.ids.add(raw, mask)
        if head.sure and 'confidence' in products.images:
            sure = products.images['confidence']
            tally.calibration.add(sure, truth == mask, known)
            tally.trusted.add(sure, flags[labels] > 0, area & (labels != UNLABELLED))
        if tally.flicker is not None:
            tally.flicker.add(truth, mask)
        if worst and here.iou():
            tally.worst.add(ScoredFrame(pair.name, here.miou(), frame.bgr, truth, mask))
    return tally


def require_pixels(tally: Tally, dataset: Dataset) -> None:
    """Refuse a data set of which nothing could be counted."""
    if not tally.confusion.pixels:
        raise ConfigError(f'all pixels of all {len(dataset.pairs)} labels are void (the first is '
                          f'{dataset.pairs[0].label}): there is nothing to measure. Labels of a '
                          'test split are often withheld; give those of another.')


def _at(frame: Frame, stamp_ns: int) -> Frame:
    """Return the frame as the camera of the sequence sends it at a time."""
    header = Header(*divmod(stamp_ns, 1_000_000_000), frame.header.frame_id)
    return Frame(CAMERA, replace(frame.message, header=header), 0, frame.max_pixels)


def _segment(pipeline: Pipeline, pair: Pair, frame: Frame, labels: np.ndarray,
             head: Head) -> tuple[Products, float]:
    """Return the products of one frame and the milliseconds from its bytes to them."""
    start = time.perf_counter_ns()
    result = pipeline.process([frame], [{head.image, 'confidence', 'drivable'}], StageClock())[0]
    ms = (time.perf_counter_ns() - start) / 1e6
    if isinstance(result, FrameError):
        raise ConfigError(f'{pair.image} is refused: {result}. Mend it, or take the pair out.')
    shape = result.images[head.image].shape
    if shape != labels.shape:
        sizes = [f'{width}x{height}' for height, width in (shape, labels.shape)]
        raise ConfigError(f'{pair.image} is {sizes[0]}, but its label {pair.label} is {sizes[1]}. '
                          'They must have one size: scale the image (the label by nearest), or '
                          'pair the right files.')
    return result, ms


def make_report(tally: Tally, scoring: ClassMatch, dataset: Dataset) -> dict[str, Any]:
    """Return the figures as ``--json`` writes them; a figure that has no meaning here is None."""
    confusion, drivable, names = tally.confusion, tally.drivable, scoring.classes.names
    iou = confusion.iou()
    seen = confusion.counts.sum(axis=1) > 0
    return {
        'miou': confusion.miou() if iou else None,
        'iou': iou,
        'pixel_accuracy': confusion.pixel_accuracy(),
        'drivable_iou': (drivable.value() if drivable.either
                         and dataset.table.drivable_lut().any() else None),
        'ece': tally.calibration.value() if tally.calibration.pixels.any() else None,
        'drivable_by_confidence': tally.trusted.from_each(THRESHOLDS),
        'frames': len(tally.times_ms),
        'ms_per_frame': round(statistics.median(tally.times_ms), 3),
        'pixels': confusion.pixels,
        'void_pixels': tally.void_pixels,
        'sequence': tally.flicker.report() if tally.flicker is not None else None,
        'confusion': {'truth': list(names), 'predicted': [*names, 'unlabelled'],
                      'pixels': confusion.counts.tolist()},
        'absent': [name for name, there in zip(names, seen, strict=True) if not there],
        'not_in_labels': [names[n] for n in scoring.classes.ids if n not in scoring.measurable],
        'drivable_head_iou': (tally.drivable_head.value() if tally.drivable_head.either
                              and dataset.table.drivable_lut().any() else None),
        'lane_iou': iou.get(names[1], 0.0) if scoring.classes == LANE_TABLE else None,
        'suspicion': (tally.ids.suspicion(confusion.pixel_accuracy()) if tally.ids else ''),
        'not_in_model': [names[n] for n in scoring.classes.ids if n not in scoring.nameable],
    }
