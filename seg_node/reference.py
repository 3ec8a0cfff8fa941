"""
The truth the fast paths are tested against: plain numpy, slow and obvious.

It states once what a label and a confidence on the output grid are; no clever step is allowed
in this file.
"""

import numpy as np

from .geometry import Axis


def upsample(maps: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """
    Return maps (C, h, w) bilinearly upsampled to the output grid, as float64 (C, H, W).

    Rows first, then columns, each ``a * (1 - f) + b * f``.
    """
    maps = maps.astype(np.float64)
    right = np.minimum(columns.low + 1, maps.shape[2] - 1)
    below = np.minimum(rows.low + 1, maps.shape[1] - 1)
    fx, fy = columns.fraction, rows.fraction[:, None]
    tall = maps[:, rows.low] * (1 - fy) + maps[:, below] * fy
    return tall[:, :, columns.low] * (1 - fx) + tall[:, :, right] * fx


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the softmax of logits / temperature over the first axis, float64."""
    logits = logits.astype(np.float64)
    exponentials = np.exp((logits - logits.max(axis=0)) / temperature)
    return exponentials / exponentials.sum(axis=0)


def labels(scores: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Return the class with the highest upsampled score (ties: the lowest), uint8 (H, W)."""
    return upsample(scores, rows, columns).argmax(axis=0).astype(np.uint8)


def confidence(probabilities: np.ndarray, winners: np.ndarray, rows: Axis,
               columns: Axis) -> np.ndarray:
    """
    Return how sure the winning class is, uint8 (H, W), 255 = certain.

    The probabilities on the network's grid are upsampled bilinearly and read at the winning
    class; ``floor(p * 255 + 0.5)``.
    """
    fine = upsample(probabilities, rows, columns)
    won = np.take_along_axis(fine, winners[None].astype(np.intp), axis=0)[0]
    return np.floor(won * 255 + 0.5).astype(np.uint8)


def entropy(probabilities: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """
    Return how torn the network is, uint8 (H, W): 0 = certain, 255 = all classes alike.

    The entropy of the probabilities on the network's grid, as a share of the greatest there can
    be, upsampled bilinearly; ``floor(share * 255 + 0.5)``.
    """
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    share = -(probabilities * logs).sum(axis=0) / np.log(max(2, len(probabilities)))
    return np.floor(upsample(share[None], rows, columns)[0] * 255 + 0.5).astype(np.uint8)
