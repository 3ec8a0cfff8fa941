"""The counting behind mIoU, against plain definitions."""

import numpy as np
import pytest

from seg_node.model.taxonomy import load_taxonomy
from seg_node.scoring.metrics import BinaryIoU, ConfusionMatrix, ExpectedCalibrationError

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


def test_predictions_outside_the_table_have_a_column_of_their_own():
    confusion = ConfusionMatrix(TABLE)
    confusion.add(np.uint8([[0, 0, 3, 3, 11, 255]]), np.uint8([[0, 255, 3, 200, 0, 0]]))
    assert confusion.counts.dtype == np.int64 and confusion.counts.shape == (11, 12)
    assert confusion.counts[:, 11].tolist() == [1, 0, 0, 1, *[0] * 7]
    assert confusion.pixels == 4 and confusion.pixel_accuracy() == 0.5
    assert confusion.iou() == {'Sky': 0.5, 'Road': 0.5}


def test_classes_that_are_not_scored_have_no_iou_but_cost_others():
    confusion = ConfusionMatrix(TABLE, scored=[0, 3])
    confusion.add(np.uint8([[0, 0, 3, 3]]), np.uint8([[0, 5, 3, 3]]))
    assert confusion.iou() == {'Sky': 0.5, 'Road': 1.0} and confusion.miou() == 0.75
    assert confusion.pixel_accuracy() == 0.75


def test_nothing_counted_is_no_number():
    confusion = ConfusionMatrix(TABLE)
    confusion.add(np.uint8([[255, 11]]), np.uint8([[0, 0]]))
    assert np.isnan(confusion.miou()) and np.isnan(confusion.pixel_accuracy())
    assert np.isnan(ExpectedCalibrationError().value())


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r'truth is \(2, 3\), mask is \(3, 2\)'):
        ConfusionMatrix(TABLE).add(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


def test_binary_iou():
    area = BinaryIoU()
    assert area.value() == 1.0
    area.add(np.array([1, 1, 0, 0, 1]), np.array([255, 0, 255, 0, 255]), np.array([1, 1, 1, 1, 0]))
    assert area.value() == pytest.approx(1 / 3)


def test_calibration_error_by_its_definition():
    calibration = ExpectedCalibrationError()
    confidence = np.arange(256, dtype=np.uint8).repeat(40).reshape(64, 160)
    right, known = RNG.random((64, 160)) < confidence / 300, RNG.random((64, 160)) < .9
    for row in range(64):  # frame by frame
        calibration.add(confidence[row], right[row], known[row])
    expected = 0.0
    for m in range(1, 16):
        low = -1 if m == 1 else (m - 1) / 15
        here = known & (confidence / 255 > low + 1e-9) & (confidence / 255 <= m / 15 + 1e-9)
        expected += (abs(right[here].mean() - (confidence[here] / 255).mean())
                     * here.sum() / known.sum())
    assert calibration.value() == pytest.approx(expected, abs=1e-12) and expected > 0.05


def test_calibration_error_of_the_extremes():
    for confidence, right, error in ((255, True, 0), (255, False, 1), (0, False, 0), (0, True, 1)):
        calibration = ExpectedCalibrationError()
        calibration.add(np.uint8([[confidence]]), np.array([[right]]), np.array([[True]]))
        assert calibration.value() == error
