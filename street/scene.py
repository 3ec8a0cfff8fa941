"""One street with all that is in it, and drawing it from a camera at a moment."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from .canvas import Canvas
from .ground import Ground
from .ground_atlas import GroundAtlas
from .motorway import draw_motorway, MotorwayScenery
from .order import joined, Outlines, paint_order
from .plan import draw_plan, Motorway, Plan
from .props import place, Prop, Props
from .ride import draw_ride
from .road import Road
from .scenery import Scenery
from .shadows import contact_outline, standing_shadows
from .sky import Sky
from .standing import Item, Standing
from .style import draw_style, MOTORWAY
from .traffic import draw_movers, Mover
from .view import Pose, View

_AHEAD_M = 160.0
_BEHIND_M = 20.0
_SHADOWS_M = 40.0


class Scene:
    """
    A street.

    :ivar style: its look.
    :ivar road: its centre line.
    :ivar plan: its cross-section and plots.
    :ivar ride: how the car drives down it.
    """

    def __init__(self, seed: int, duration_s: float, district: str | None = None) -> None:
        # One generator a part, so that a change to one leaves the others as they were.
        rng = [np.random.default_rng([seed, part]) for part in range(5)]
        self.style = draw_style(rng[0], district)
        fast = self.style.district == MOTORWAY
        self.ride = draw_ride(rng[0], fast)
        end = self.ride.s(duration_s) + _AHEAD_M
        self.road = Road(rng[1], -_BEHIND_M - 10, end + 40, 0.3 if fast else 1.0)
        draw = draw_motorway if fast else partial(draw_plan, district=self.style.district)
        self.plan = draw(rng[1], start=-_BEHIND_M, end=end)
        self.light = self.style.light
        standing = _town(rng, self.plan, self.road) if self.plan.motorway is None else _motorway(
            rng, self.plan, self.road, self.plan.motorway)
        self._movers = draw_movers(rng[3], self.plan, self.ride, duration_s)
        shadows = standing_shadows(rng[4], self.light, self.road, standing)
        self.atlas = GroundAtlas(rng[4], self.plan, self.light, shadows)
        self._ground = Ground(self.plan, self.road, self.atlas)
        self._sky = Sky(rng[4], self.style)
        self._vehicles = standing.vehicles
        self._standing: list[Item] = standing.items()
        self._outlines = _outlines(self._standing)
        footprints = self._outlines.footprints
        self._centres = footprints.mean(axis=1)
        self._radii = np.linalg.norm(footprints - self._centres[:, None], axis=2).max(
            axis=1) + self._outlines.spread

    def draw(self, view: View, pose: Pose, time_s: float) -> np.ndarray:
        """Return the canvas (height, width, 4) uint8: BGR and class ids."""
        canvas = Canvas(view, pose, self.light)
        s = self.ride.s(time_s)
        self._sky.draw(canvas, self._horizon_row(view, pose))
        self._ground.draw(canvas, s)
        movers = [self._moved(mover, time_s) for mover in self._movers
                  if s - 8 < mover.s(time_s) < min(s + _AHEAD_M, self.plan.end - 2)]
        self._shade(canvas, movers)
        inside = self._in_view(view, pose)
        items: list[Item] = [*(self._standing[index] for index in inside), *movers]
        outlines = joined(self._outlines[inside], _outlines(movers))
        order = paint_order(outlines, pose.centre, pose.ahead())
        _draw(canvas, [items[index] for index in order])
        return canvas.pixels

    def _horizon_row(self, view: View, pose: Pose) -> int:
        """Return the lowest canvas row (exclusive) that may show sky."""
        height, width = view.size
        rays = view.rays(np.array([0.0, width - 1.0]), np.arange(height)) @ pose.rotation
        level = np.flatnonzero((rays[..., 2] > -0.01).any(axis=1))
        return int(level[-1]) + 2 if len(level) else 0

    def _moved(self, mover: Mover, time_s: float) -> Prop:
        """Return a mover set down where it is now."""
        state = mover.at(time_s)
        point = self.road.to_world(state.s, state.d)
        return place(state.mesh, np.array([point[0], point[1], state.z]),
                     self.road.heading(state.s) + state.turn, mover.size,
                     self.atlas.sunlit(state.s, state.d))

    def _in_view(self, view: View, pose: Pose) -> np.ndarray:
        """Return the indices of standing things that may be in the picture."""
        ahead = pose.ahead()
        away = self._centres - pose.centre[:2]
        depth = away @ ahead
        side = np.abs(away[:, 0] * -ahead[1] + away[:, 1] * ahead[0])
        widest = max(view.centre[0], view.size[1] - view.centre[0]) / view.focal[0] + 0.05
        near = (depth + self._radii > 0) & (depth < _AHEAD_M + 60)
        inside = side - self._radii < np.maximum(depth + self._radii, 0) * widest
        return np.flatnonzero(near & inside)

    def _shade(self, canvas: Canvas, movers: list[Prop]) -> None:
        """Darken the ground below vehicles, and where movers keep the sun off."""
        bright = float(self.light.sun.mean()) > 0.1
        parked = len(self._vehicles)
        for index, prop in enumerate((*self._vehicles, *movers)):
            away = float(np.linalg.norm(prop.footprint.mean(axis=0) - canvas.pose.centre[:2]))
            if away > _SHADOWS_M:
                continue
            if bright and prop.sunlit > 0.5 and index >= parked:
                cast = contact_outline(prop, self.light)
                share = min(1.0, (_SHADOWS_M - away) / 10)
                gain = 1 - share * (1 - self.light.shadow_gain())
                self._ground.shade(canvas, cast, gain, 0.05)
            # Fades in with nearness, so that none appears at once.
            depth = 0.64 * min(1.0, (_SHADOWS_M - away) / 10)
            self._ground.shade(canvas, prop.footprint, np.full(3, 1 - depth), 0.28)


def _town(rng: list[np.random.Generator], plan: Plan, road: Road) -> Standing:
    scenery, props = Scenery(rng[2], plan, road), Props(rng[3], plan, road)
    return Standing(scenery.buildings, [], scenery.boundaries, scenery.trees, props.posts,
                    props.vehicles)


def _motorway(rng: list[np.random.Generator], plan: Plan, road: Road,
              motorway: Motorway) -> Standing:
    scenery = MotorwayScenery(rng[2], plan, road, motorway)
    return Standing([], scenery.walls, scenery.banks, scenery.trees, scenery.posts, [])


def _outlines(items: Sequence[Item]) -> Outlines:
    return Outlines(
        np.array([item.footprint for item in items]).reshape(-1, 4, 2),
        *(np.array([getattr(item, key) for item in items], float)
          for key in ('spread', 'height', 'solid')))


def _draw(canvas: Canvas, items: Sequence[Item]) -> None:
    """Draw things in their order."""
    meshes = [(item.mesh, item.sunlit) for item in items if item.mesh is not None]
    prepared = iter(canvas.prepare(meshes))
    for item in items:
        item.paint(canvas)
        if item.mesh is not None:
            canvas.fill(next(prepared))
