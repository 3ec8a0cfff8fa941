"""Are the ids of labels read as they are meant? A model that is right tells."""

import numpy as np

from ..model.taxonomy import ClassTable, UNLABELLED

#: Another reading is suspected when so many pixels are right by it, and so many times as many.
_LEAST, _TIMES = 0.3, 2.0


class IdReading:
    """
    Counts pixels by (id in the file, predicted class), to compare readings of the ids.

    :param table: the classes of the labels, which predictions are in, too.
    """

    def __init__(self, table: ClassTable) -> None:
        self._classes = len(table)
        self._counts = np.zeros((256, 256), np.int64)

    def add(self, raw: np.ndarray, predicted: np.ndarray) -> None:
        """Count one frame: ids in the file and predicted classes, (H, W) below 256."""
        pairs = raw.astype(np.uint16).reshape(-1) * np.uint16(256) + predicted.reshape(-1)
        self._counts += np.bincount(pairs, minlength=65536).reshape(256, 256)

    def merge(self, other: 'IdReading') -> None:
        """Add what another counted in the same classes."""
        self._counts += other._counts

    def suspicion(self, accuracy: float) -> str:
        """
        Return which other reading fits far better, with its mend; '' if none does.

        :param accuracy: share of right pixels as the ids are read now.
        """
        for shift, said in ((0, 'taken as class ids (0 = the first class)'),
                            (1, 'one less than they are read as class ids'),
                            (-1, 'one more than they are read as class ids')):
            ids = np.arange(self._classes)
            inside = (ids + shift >= 0) & (ids + shift < UNLABELLED)
            part = self._counts[ids[inside] + shift]
            total = int(part.sum())
            right = int(part[np.arange(len(part)), ids[inside]].sum())
            share = right / total if total else 0.0
            if share > _LEAST and share > _TIMES * accuracy:
                return (f'the ids of the labels look shifted: {accuracy:.4f} of the pixels are '
                        f'right as they are read, {share:.4f} if the ids in the files are {said}. '
                        + _MENDS[shift])
        return ''


_MENDS = {0: 'Give --layout pairs with --taxonomy, or the -trainids layout.',
          1: 'Labels that count from 1 with 0 as void: give the layout that says so (ade20k).',
          -1: 'Add one to the ids in the files, or give the layout they are in.'}
