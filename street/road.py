"""The street's centre line and its own coordinates: s along it, d to its left, both metres."""

import numpy as np

STEP_M = 0.25


class Road:
    """
    A gently curved centre line in the world plane (x forward, y left, metres).

    Convention: ``s`` is the arc length from the point where the drive starts, ``d`` the distance
    to the left of the line. The centre line passes through the world's origin along x at s = 0.
    """

    def __init__(self, rng: np.random.Generator, start_m: float, end_m: float,
                 bends: float = 1.0) -> None:
        """
        Draw the line.

        :param bends: how much it bends; 1 for a street in town.
        """
        self.start_m, self.end_m = start_m, end_m
        self._s = np.arange(start_m, end_m + STEP_M, STEP_M)
        heading = np.zeros_like(self._s)
        for _ in range(2):
            wave = rng.uniform(150.0, 280.0)
            bend = rng.uniform(0.08, 0.28) * rng.choice((-1.0, 1.0))
            heading += bends * bend * np.sin(2 * np.pi * (self._s / wave + rng.uniform()))
        origin = int(round(-start_m / STEP_M))
        heading -= heading[origin]
        middle = (heading[1:] + heading[:-1]) / 2
        x = np.concatenate([[0.0], np.cumsum(np.cos(middle))]) * STEP_M
        y = np.concatenate([[0.0], np.cumsum(np.sin(middle))]) * STEP_M
        self._heading = heading
        # One row a step (x, y, cos, sin, heading), so that one gather fetches all of it.
        self._rows = np.stack([x - x[origin], y - y[origin], np.cos(heading), np.sin(heading),
                               heading], axis=1)

    def _at(self, s: np.ndarray) -> np.ndarray:
        """Return the table's rows at s, (..., 5); past the ends the line stays at its last."""
        place = np.clip((s - self.start_m) / STEP_M, 0, len(self._s) - 1.001)
        low = place.astype(np.int32)
        part = (place - low)[..., None]
        return self._rows[low] * (1 - part) + self._rows[low + 1] * part

    def heading(self, s: float) -> float:
        """Return the direction of the centre line at s, radians from the world's x axis."""
        return float(np.interp(s, self._s, self._heading))

    def to_world(self, s: np.ndarray | float, d: np.ndarray | float) -> np.ndarray:
        """Return the world points (..., 2) of street coordinates (broadcast together)."""
        s, d = np.broadcast_arrays(np.asarray(s, float), np.asarray(d, float))
        row = self._at(s)
        # Past the ends the street goes on straight.
        rest = s - np.clip(s, self.start_m, self.end_m)
        return np.stack([row[..., 0] + rest * row[..., 2] - d * row[..., 3],
                         row[..., 1] + rest * row[..., 3] + d * row[..., 2]], axis=-1)

    def to_street(self, x: np.ndarray, y: np.ndarray, guess: np.ndarray,
                  rounds: int = 4) -> tuple[np.ndarray, np.ndarray]:
        """
        Return (s, d) of world points.

        :param guess: s to start from, e.g. the camera's plus the distance ahead.
        """
        s = np.clip(guess, self.start_m, self.end_m)
        for _ in range(rounds):
            row = self._at(s)
            s = s + (x - row[..., 0]) * row[..., 2] + (y - row[..., 1]) * row[..., 3]
            s = np.clip(s, self.start_m, self.end_m)
        row = self._at(s)
        away_x, away_y = x - row[..., 0], y - row[..., 1]
        along = away_x * row[..., 2] + away_y * row[..., 3]
        return s + along, away_y * row[..., 2] - away_x * row[..., 3]
