"""What hides what: the painter's order of things on the ground, and which are out of sight."""

from dataclasses import dataclass

import numpy as np

_TOUCH_M = 0.02


@dataclass(frozen=True, eq=False)
class Outlines:
    """
    Things on the ground, as seen from above.

    :ivar footprints: (n, 4, 2) world corners of convex outlines, counter-clockwise.
    :ivar spread: (n,) metres by which the thing is wider than its footprint (crowns, eaves).
    :ivar height: (n,) metres, highest point.
    :ivar solid: (n,) metres up to which nothing shows through; 0 where something does.
    """

    footprints: np.ndarray
    spread: np.ndarray
    height: np.ndarray
    solid: np.ndarray

    def __getitem__(self, index: np.ndarray) -> 'Outlines':
        return Outlines(self.footprints[index], self.spread[index], self.height[index],
                        self.solid[index])


def joined(first: Outlines, second: Outlines) -> Outlines:
    """Return the things of both, the first's first."""
    return Outlines(*(np.concatenate([getattr(first, key), getattr(second, key)])
                      for key in ('footprints', 'spread', 'height', 'solid')))


def paint_order(things: Outlines, camera: np.ndarray, ahead: np.ndarray) -> list[int]:
    """
    Return the indices of the things in sight, from the hindmost to the foremost.

    Two things that don't overlap on the ground are parted by the line along one of their edges;
    the one on the camera's side of it can hide the other, never the other way round. Of things
    that do overlap the nearer one comes later.

    :param camera: (3,) world position.
    :param ahead: (2,) unit viewing direction.
    """
    corners = (things.footprints - camera[:2]).astype(np.float32)
    distance = np.sqrt((corners ** 2).sum(axis=2))
    low, high = _angles(corners, ahead)
    wider = np.arctan2(things.spread, np.maximum(distance.min(axis=1) - things.spread, 0.1))
    wide_low, wide_high = low - wider, high + wider
    share = (wide_low[:, None] <= wide_high[None, :]) & (
        wide_low[None, :] <= wide_high[:, None])
    hides = _hiding(corners, distance.mean(axis=1)) & share
    np.fill_diagonal(hides, False)
    angles = (low, high, wide_low, wide_high)
    seen = np.flatnonzero(~_hidden(things, distance, angles, hides, float(camera[2])))
    order = _sorted(hides[np.ix_(seen, seen)], distance.mean(axis=1)[seen])
    return list(seen[order].tolist())


def _sorted(hides: np.ndarray, distance: np.ndarray) -> list[int]:
    """Return an order in which nothing comes before what it hides, the farthest first."""
    count = len(distance)
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


def _hiding(corners: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """
    Return (n, n) bool: [i, j] is true where i can hide j.

    :param corners: (n, 4, 2), relative to the camera.
    """
    count = len(corners)
    edge = np.roll(corners, -1, axis=1) - corners
    normal = np.stack([edge[..., 1], -edge[..., 0]], axis=-1)
    normal /= np.maximum(np.sqrt((normal ** 2).sum(axis=-1, keepdims=True)), 1e-9)
    level = (normal * corners).sum(axis=-1)
    # side[i, e, j]: how far j's nearest corner is outside edge e of i.
    across, along = (normal[..., axis].reshape(-1, 1) for axis in (0, 1))
    side = np.full((count * 4, count), np.inf, corners.dtype)
    for corner in range(4):
        reach = across * corners[:, corner, 0]
        reach += along * corners[:, corner, 1]
        np.minimum(side, reach, out=side)
    side = side.reshape(count, 4, count)
    parted = side - level[..., None] > -_TOUCH_M
    facing = (level < 0)[..., None]
    other_before = (parted & facing).any(axis=1)
    other_behind = (parted & ~facing).any(axis=1)
    hides = other_before.T | other_behind
    overlapping = ~(hides | hides.T)
    nearer = distance[:, None] < distance[None, :]
    return np.asarray((hides & ~hides.T) | (overlapping & nearer))


def _angles(corners: np.ndarray, ahead: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and greatest direction (radians from ahead) of each outline."""
    forward = corners @ ahead
    left = ahead[0] * corners[..., 1] - ahead[1] * corners[..., 0]
    angle = np.arctan2(left, forward)
    low, high = angle.min(axis=1), angle.max(axis=1)
    # Across the seam straight behind the camera: taken to reach all around.
    around = high - low > np.pi
    return np.where(around, -np.pi, low), np.where(around, np.pi, high)


def _hidden(things: Outlines, distance: np.ndarray, angles: tuple[np.ndarray, ...],
            hides: np.ndarray, eye: float) -> np.ndarray:
    """
    Return (n,) bool: wholly behind one solid thing.

    :param angles: least and greatest direction of each footprint, then with its spread.
    """
    low, high, wide_low, wide_high = angles
    nearest, farthest = distance.min(axis=1), distance.max(axis=1)
    nearest = np.maximum(nearest - things.spread, 0.1)
    top = np.arctan2(things.height - eye, np.where(things.height > eye, nearest, farthest))
    cover = np.arctan2(things.solid - eye, farthest)
    covered = hides & (low[:, None] <= wide_low[None, :])
    covered &= (high[:, None] >= wide_high[None, :]) & (cover[:, None] > top[None, :])
    whole = (things.solid > eye) & (high - low < np.pi)
    return np.asarray((covered & whole[:, None]).any(axis=0))
