"""The counting behind mIoU, against plain definitions."""

import numpy as np
import pytest

from seg_node.metrics import BinaryIoU, ConfusionMatrix
from seg_node.taxonomy import load_taxonomy

TABLE = load_taxonomy('camvid11')
RNG = np.random.default_rng(0)


def test_iou_by_its_definition():
    confusion = ConfusionMatrix(TABLE)
    truth = RNG.integers(0, 9, (4, 30, 40), np.uint8)
    mask = np.where(RNG.random(truth.shape) < .7, truth, RNG.integers(0, 9, truth.shape)
                    ).astype(np.uint8)
    truth[:, :3], truth[:, 3:5] = 255, 11  # void counts nowhere
    mask[:, 6] = 255  # unlabelled is a miss
    for frame in range(4):
        confusion.add(truth[frame], mask[frame])
    known = truth < 11
    for entry in TABLE.classes:
        union = (((truth == entry.id) | (mask == entry.id)) & known).sum()
        if union:
            hit = ((truth == entry.id) & (mask == entry.id) & known).sum()
            assert confusion.iou()[entry.name] == pytest.approx(hit / union, abs=1e-12)
        else:
            assert entry.name not in confusion.iou()
    assert confusion.counts.sum() == known.sum()
    assert confusion.miou() == pytest.approx(np.mean(list(confusion.iou().values())))


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r'truth is \(2, 3\), mask is \(3, 2\)'):
        ConfusionMatrix(TABLE).add(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


def test_binary_iou():
    area = BinaryIoU()
    assert area.value() == 1.0
    area.add(np.array([1, 1, 0, 0, 1]), np.array([255, 0, 255, 0, 255]), np.array([1, 1, 1, 1, 0]))
    assert area.value() == pytest.approx(1 / 3)
