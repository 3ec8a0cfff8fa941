"""How good masks are: integer counts first, fractions last."""

import numpy as np

from .taxonomy import ClassTable


class ConfusionMatrix:
    """
    Counts pixels by (true class, predicted class) as int64.

    :param classes: the table of both; truth outside the table (255, void ids) is ignored.
    """

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        # One more column: a prediction outside the table is wrong for every true class.
        self.counts = np.zeros((len(classes), len(classes) + 1), np.int64)

    def add(self, truth: np.ndarray, mask: np.ndarray) -> None:
        """Count one frame; both (H, W) uint8."""
        if truth.shape != mask.shape:
            raise ValueError(f'truth is {truth.shape}, mask is {mask.shape}; they must be equal')
        n = len(self.classes)
        known = truth < n
        pairs = truth[known].astype(np.int64) * (n + 1) + np.minimum(mask[known], n)
        self.counts += np.bincount(pairs, minlength=n * (n + 1)).reshape(n, n + 1)

    def iou(self) -> dict[str, float]:
        """Return TP / (TP + FP + FN) of each class that occurs in truth or prediction."""
        hit = np.diagonal(self.counts)
        union = self.counts.sum(axis=1) + self.counts[:, :-1].sum(axis=0) - hit
        return {entry.name: float(hit[entry.id] / union[entry.id])
                for entry in self.classes.classes if union[entry.id]}

    def miou(self) -> float:
        """Return the mean of ``iou`` over the classes that occur."""
        return float(np.mean(list(self.iou().values())))


class BinaryIoU:
    """Counts the intersection and union of two areas over frames."""

    def __init__(self) -> None:
        self.both = self.either = 0

    def add(self, truth: np.ndarray, area: np.ndarray, known: np.ndarray) -> None:
        """Count one frame; all (H, W), anything non-zero is inside."""
        truth, area, known = truth > 0, area > 0, known > 0
        self.both += int(np.count_nonzero(truth & area & known))
        self.either += int(np.count_nonzero((truth | area) & known))

    def value(self) -> float:
        """Return the intersection over union."""
        return self.both / self.either if self.either else 1.0
