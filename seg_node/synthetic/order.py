"""The painter's order: which thing on the ground has to be drawn before which."""

import numpy as np

_TOUCH_M = 0.02


def paint_order(footprints: np.ndarray, camera: np.ndarray, ahead: np.ndarray) -> list[int]:
    """
    Return the indices of things from the hindmost to the foremost.

    Two things that don't overlap on the ground are parted by the line along one of their edges;
    the one on the camera's side of it can hide the other, never the other way round. Of things
    that do overlap the nearer one comes later.

    :param footprints: (n, 4, 2) world corners of convex outlines, counter-clockwise.
    :param camera: (2,) world position.
    :param ahead: (2,) unit viewing direction.
    """
    count = len(footprints)
    distance = np.linalg.norm(footprints.mean(axis=1) - camera, axis=1)
    hides = _hiding(footprints, camera) & _overlapping_angles(footprints - camera, ahead)
    np.fill_diagonal(hides, False)
    # hides[i, j]: j is drawn before i. Draw what waits for nothing, farthest first.
    waits = hides.sum(axis=1)
    done = np.zeros(count, bool)
    order: list[int] = []
    farthest = np.argsort(-distance, kind='stable')
    while len(order) < count:
        left = farthest[~done[farthest]]
        ready = left[waits[left] == 0]
        # A ring of three that hide one another is cut at its farthest member.
        batch = ready if len(ready) else left[:1]
        done[batch] = True
        waits -= hides[:, batch].sum(axis=1)
        order.extend(batch.tolist())
    return order


def _hiding(footprints: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Return (n, n) bool: [i, j] is true where i can hide j."""
    edge = np.roll(footprints, -1, axis=1) - footprints
    normal = np.stack([edge[..., 1], -edge[..., 0]], axis=-1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    level = (normal * footprints).sum(axis=-1)
    # side[i, e, j]: how far j's nearest corner is outside edge e of i.
    side = np.einsum('iek,jck->iejc', normal, footprints).min(axis=-1) - level[..., None]
    parted = side > -_TOUCH_M
    seen = (normal @ camera - level > 0)[..., None]
    other_before = (parted & seen).any(axis=1)
    other_behind = (parted & ~seen).any(axis=1)
    hides = other_before.T | other_behind
    overlapping = ~(hides | hides.T)
    distance = np.linalg.norm(footprints.mean(axis=1) - camera, axis=1)
    nearer = distance[:, None] < distance[None, :]
    return (hides & ~hides.T) | (overlapping & nearer)


def _overlapping_angles(corners: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Return (n, n) bool: whether two outlines share a direction from the camera."""
    forward = corners @ ahead
    left = ahead[0] * corners[..., 1] - ahead[1] * corners[..., 0]
    angle = np.arctan2(left, forward)
    low, high = angle.min(axis=1), angle.max(axis=1)
    # Across the seam straight behind the camera: taken to reach all around.
    around = high - low > np.pi
    low, high = np.where(around, -np.pi, low), np.where(around, np.pi, high)
    return (low[:, None] <= high[None, :]) & (low[None, :] <= high[:, None])
