"""How good masks are: integer counts first, fractions last."""

from collections.abc import Collection, Sequence

import numpy as np

from ..model.taxonomy import ClassTable


class ConfusionMatrix:
    """
    Counts pixels by (true class, predicted class).

    Truth outside the table (255, void ids) is ignored; a prediction outside it is wrong for every
    true class.

    :param classes: the table of both.
    :param scored: ids of the classes whose IoU is asked for; None = all. The others cannot occur
        in the truth, so an IoU of theirs would say nothing; predicting them still is an error.
    :ivar counts: (n, n + 1) int64, rows are the truth; the last column counts predictions that
        are no class of the table.
    """

    def __init__(self, classes: ClassTable, scored: Collection[int] | None = None) -> None:
        self.classes = classes
        self.scored = frozenset(classes.ids if scored is None else scored)
        self.counts = np.zeros((len(classes), len(classes) + 1), np.int64)

    def add(self, truth: np.ndarray, mask: np.ndarray) -> None:
        """Count one frame; both (H, W) uint8."""
        if truth.shape != mask.shape:
            raise ValueError(f'truth is {truth.shape}, mask is {mask.shape}; they must be equal')
        n = len(self.classes)
        known = truth < n
        pairs = truth[known].astype(np.int64) * (n + 1) + np.minimum(mask[known], n)
        self.counts += np.bincount(pairs, minlength=n * (n + 1)).reshape(n, n + 1)

    def merge(self, other: 'ConfusionMatrix') -> None:
        """Add what another counted in the same classes."""
        self.counts += other.counts

    def occurring(self) -> frozenset[int]:
        """Return the ids of the classes that occur in the truth."""
        return frozenset(np.flatnonzero(self.counts.sum(axis=1)).tolist())

    @property
    def pixels(self) -> int:
        """How many pixels were counted."""
        return int(self.counts.sum())

    def iou(self) -> dict[str, float]:
        """Return TP / (TP + FP + FN) of each scored class that occurs in truth or prediction."""
        hit = np.diagonal(self.counts)
        union = self.counts.sum(axis=1) + self.counts[:, :-1].sum(axis=0) - hit
        return {entry.name: float(hit[entry.id] / union[entry.id])
                for entry in self.classes.classes
                if union[entry.id] and entry.id in self.scored}

    def miou(self) -> float:
        """Return the mean of ``iou`` over its classes; NaN when there are none."""
        values = list(self.iou().values())
        return float(np.mean(values)) if values else float('nan')

    def pixel_accuracy(self) -> float:
        """Return the share of the counted pixels whose class is right; NaN when there are none."""
        return int(np.trace(self.counts)) / self.pixels if self.pixels else float('nan')


class BinaryIoU:
    """Counts the intersection and union of two areas over frames."""

    def __init__(self) -> None:
        self.both = self.either = 0

    def add(self, truth: np.ndarray, area: np.ndarray, known: np.ndarray) -> None:
        """Count one frame; all (H, W), anything non-zero is inside."""
        truth, area, known = truth > 0, area > 0, known > 0
        self.both += int(np.count_nonzero(truth & area & known))
        self.either += int(np.count_nonzero((truth | area) & known))

    def merge(self, other: 'BinaryIoU') -> None:
        """Add what another counted."""
        self.both += other.both
        self.either += other.either

    def value(self) -> float:
        """Return the intersection over union; 1 when neither area ever occurred."""
        return self.both / self.either if self.either else 1.0


class ExpectedCalibrationError:
    """
    The expected calibration error (ECE) of a confidence of 0 to 255.

    Counted exactly, by each of the 256 values. For the error these fall into the customary 15
    bins of equal width, the m-th of which holds confidences above (m - 1) / 15 and up to m / 15:
    17 values each (1 to 17, 18 to 34, ..., 239 to 255), 0 with the first. The error is the mean
    over all pixels of how far the share of right pixels of their bin lies from the bin's mean
    confidence (value / 255).

    :ivar pixels: (256,) int64, pixels of each confidence.
    :ivar right: (256,) int64, how many of them have the right class.
    """

    BINS = 15

    def __init__(self) -> None:
        self.pixels = np.zeros(256, np.int64)
        self.right = np.zeros(256, np.int64)

    def add(self, confidence: np.ndarray, right: np.ndarray, known: np.ndarray) -> None:
        """Count one frame: confidence uint8, right and known bool, all (H, W)."""
        self.pixels += np.bincount(confidence[known], minlength=256)
        self.right += np.bincount(confidence[known & right], minlength=256)

    def merge(self, other: 'ExpectedCalibrationError') -> None:
        """Add what another counted."""
        self.pixels += other.pixels
        self.right += other.right

    def value(self) -> float:
        """Return the error, a fraction of 1; NaN when nothing was counted."""
        total = int(self.pixels.sum())
        if not total:
            return float('nan')
        # In 255ths of a pixel, all is whole numbers up to the last division.
        surplus = self._binned(255 * self.right - np.arange(256) * self.pixels)
        return int(np.abs(surplus).sum()) / (255 * total)

    def bins(self) -> list[tuple[int, float, float]]:
        """Return of each bin its pixels, the share of right ones and the mean confidence."""
        pixels, right = self._binned(self.pixels), self._binned(self.right)
        levels = self._binned(np.arange(256) * self.pixels) / 255
        return [(int(n), float(hits / n) if n else 0.0, float(sure / n) if n else 0.0)
                for n, hits, sure in zip(pixels, right, levels, strict=True)]

    def from_each(self, thresholds: Sequence[float]) -> list[dict[str, float]]:
        """
        Return for each threshold which share is at least so sure, and how much of that is wrong.

        :return: ``threshold``, ``kept`` (of all pixels) and ``wrong`` (of those kept), fractions
            of 1; thresholds that no pixel reaches are left out.
        """
        rows, total = [], int(self.pixels.sum())
        for threshold in thresholds:
            least = int(np.ceil(threshold * 255))
            pixels, right = int(self.pixels[least:].sum()), int(self.right[least:].sum())
            if pixels:
                rows.append({'threshold': threshold, 'kept': pixels / total,
                             'wrong': (pixels - right) / pixels})
        return rows

    def _binned(self, counts: np.ndarray) -> np.ndarray:
        """Return the sums over the bins of counts by confidence, int64."""
        bins = (np.maximum(np.arange(256), 1) - 1) // (255 // self.BINS)
        sums = np.zeros(self.BINS, np.int64)
        np.add.at(sums, bins, counts)
        return sums
