"""The car's body on its springs: how it dives, squats, leans and bobs."""

import math

import numpy as np

from seg_node.scoring.drive import Body

from .ride import Ride
from .road import Road

# A family car: 3.4 degrees for each g of deceleration, 4 for each g in a bend.
_PITCH_PER_MPS2 = -0.0061
_ROLL_PER_MPS2 = 0.0071
_PITCH_HZ, _ROLL_HZ, _DAMPING = 1.4, 1.6, 0.35
# The body turns about the middle between the axles, metres ahead of base_link.
_CENTRE_M = 1.35
_SETTLE_S = 3.0
_HALF_STEP_S = 0.03


class BodyMotion:
    """
    Where the car is and how its body stands, at any time of a ride.

    Pitch and roll follow the accelerations as damped springs do: with a lag, past the end value
    and back. The unevenness of the road adds a little.
    """

    def __init__(self, ride: Ride, road: Road, duration_s: float) -> None:
        self._ride, self._road = ride, road
        self._times = np.arange(-_SETTLE_S, duration_s + 1.0, ride.step_s)
        self._pitch = _spring(np.array([_PITCH_PER_MPS2 * ride.acceleration(time_s)
                                        for time_s in self._times]), _PITCH_HZ, ride.step_s)
        self._roll = _spring(np.array([_ROLL_PER_MPS2 * self._sideways(time_s)
                                       for time_s in self._times]), _ROLL_HZ, ride.step_s)

    def at(self, time_s: float) -> Body:
        """Return the state at a time from the beginning of the ride."""
        ride = self._ride
        x, y = self._road.to_world(ride.s(time_s), ride.d(time_s))
        bob = math.sin(2 * math.pi * 1.35 * time_s) + 0.6 * math.sin(2 * math.pi * 0.83 * time_s)
        pitch = float(np.interp(time_s, self._times, self._pitch)) + 0.0010 * bob
        roll = float(np.interp(time_s, self._times, self._roll)) + 0.0015 * math.sin(
            2 * math.pi * 0.71 * time_s + 1.0)
        (before, yaw_before), (after, yaw_after) = (
            self._moves(time_s + step) for step in (-_HALF_STEP_S, _HALF_STEP_S))
        speed, yaw = self._moves(time_s)
        return Body(
            time_s=time_s, x_m=float(x), y_m=float(y),
            height_m=0.005 * bob + _CENTRE_M * math.sin(pitch), roll_rad=roll, pitch_rad=pitch,
            yaw_rad=yaw, speed_mps=speed, acceleration_mps2=(after - before) / 2 / _HALF_STEP_S,
            yaw_rate_radps=(yaw_after - yaw_before) / 2 / _HALF_STEP_S)

    def _moves(self, time_s: float) -> tuple[float, float]:
        """Return the speed (m/s) and where it leads, radians to the left of the world's x axis."""
        ride, s = self._ride, self._ride.s(time_s)
        bend = self._road.heading(s + 0.5) - self._road.heading(s - 0.5)
        along, across = ride.s_speed(time_s) * (1 - bend * ride.d(time_s)), ride.d_speed(time_s)
        return (math.hypot(along, across),
                self._road.heading(s) + math.atan2(across, max(along, 0.5)))

    def _sideways(self, time_s: float) -> float:
        """Return the acceleration to the left, metres a second squared."""
        turned = self._road.heading(self._ride.s(time_s + 0.05)) - self._road.heading(
            self._ride.s(time_s - 0.05))
        return self._ride.s_speed(time_s) * turned / 0.1


def _spring(rest: np.ndarray, frequency_hz: float, step_s: float) -> np.ndarray:
    """Return where a damped spring is whose place of rest moves, at every step."""
    omega = 2 * math.pi * frequency_hz
    place, speed, places = float(rest[0]), 0.0, np.empty(len(rest))
    for index, target in enumerate(rest.tolist()):
        speed += step_s * (omega ** 2 * (target - place) - 2 * _DAMPING * omega * speed)
        place += step_s * speed
        places[index] = place
    return places
