"""How the car itself drives: place, speed and acceleration along the street, place in the lane."""

import numpy as np

from .plan import LANE_M

LANE_D = LANE_M / 2
_STEP_S = 0.005
_LENGTH_S = 200.0
_ONSET_S = 0.4  # a driver's foot takes that long to build a deceleration up


class Ride:
    """
    One way to drive: phases of braking, accelerating and steady speed.

    Before its beginning and after its phases the car keeps its speed.

    :ivar speed: metres a second on average over the first quarter of a minute.
    :ivar acceleration_mps2: (n,) float64, every ``step_s`` from the beginning.
    """

    step_s = _STEP_S

    def __init__(self, speed: float, phases: list[tuple[float, float]], weave: float,
                 phase: float) -> None:
        """
        Set out.

        :param speed: at the beginning, metres a second.
        :param phases: (seconds, metres a second squared) one after the other.
        :param weave: how far the car swings about the middle of its lane, metres.
        :param phase: where in that swing it begins, radians.
        """
        counts = [round(seconds / _STEP_S) for seconds, _ in phases]
        steps = np.repeat([value for _, value in phases], counts)
        window = np.hanning(round(_ONSET_S / _STEP_S) + 1)
        self.acceleration_mps2 = np.convolve(steps, window / window.sum())
        self._speeds = speed + np.concatenate(
            [[0.0], np.cumsum(self.acceleration_mps2)]) * _STEP_S
        middle = (self._speeds[1:] + self._speeds[:-1]) / 2
        self._places = np.concatenate([[0.0], np.cumsum(middle)]) * _STEP_S
        self._times = np.arange(len(self._places)) * _STEP_S
        self._weave, self._phase = weave, phase
        self.speed = self.s(15.0) / 15.0

    def s(self, time_s: float) -> float:
        """Return the place along the street, metres; 0 at the start."""
        inside = min(max(time_s, 0.0), float(self._times[-1]))
        place = float(np.interp(inside, self._times, self._places))
        return place + (time_s - inside) * self.s_speed(time_s)

    def s_speed(self, time_s: float) -> float:
        """Return the speed, metres a second."""
        return float(np.interp(time_s, self._times, self._speeds))

    def acceleration(self, time_s: float) -> float:
        """Return the acceleration, metres a second squared."""
        return float(np.interp(time_s, self._times[:-1], self.acceleration_mps2, 0.0, 0.0))

    def d(self, time_s: float) -> float:
        """Return the place across the street, metres left of its centre line."""
        return float(LANE_D - 0.05 + self._weave * np.sin(0.31 * self.s(time_s) / 3 + self._phase))

    def d_speed(self, time_s: float) -> float:
        """Return how fast it moves to the left, metres a second."""
        return (self.d(time_s + 0.01) - self.d(time_s - 0.01)) / 0.02


def draw_ride(rng: np.random.Generator, fast: bool = False) -> Ride:
    """Return a way to drive; fast on a motorway."""
    if fast:
        top = rng.uniform(18, 28)
        low, high, brakes, gains = (0.86 * top, 0.93 * top), (0.96 * top, top), (0.6, 1.8), (
            0.4, 1.0)
    else:
        low, high, brakes, gains = (3.0, 5.0), (8.0, 11.0), (2.2, 3.6), (1.3, 2.2)
    start = speed = rng.uniform(*high)
    phases, planned = [(rng.uniform(0.6, 1.6), 0.0)], 0.0
    while planned < _LENGTH_S:
        for speeds, rates, sign, rests in ((low, brakes, -1, (0.3, 1.2)),
                                           (high, gains, 1, (0.5, 2.0))):
            wanted, rate = rng.uniform(*speeds), rng.uniform(*rates)
            phases += [(abs(wanted - speed) / rate, sign * rate), (rng.uniform(*rests), 0.0)]
            speed = wanted
            planned += phases[-1][0] + phases[-2][0]
    return Ride(start, phases, rng.uniform(0.08, 0.3), rng.uniform(0, 2 * np.pi))
