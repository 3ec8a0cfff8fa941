"""Shadows on the ground: of what stands (painted into the ground) and of what moves."""

import cv2
import numpy as np

from .light import Light
from .props import Prop
from .road import Road
from .standing import Standing


def standing_shadows(rng: np.random.Generator, light: Light, road: Road,
                     standing: Standing) -> list[np.ndarray]:
    """Return the shadows of all that stands, polygons (k, 2) of street coordinates."""
    if float(light.sun.mean()) < 0.1:
        return []
    world = [_cast(item.footprint, item.height, light)
             for item in (*standing.buildings, *standing.walls)]
    world += [_cast(prop.footprint, prop.height * 0.95, light) for prop in standing.vehicles]
    world += [_cast(_thin(prop.footprint, 0.5), prop.height, light) for prop in standing.posts]
    for tree in standing.trees:
        width = tree.kind.width * tree.height
        crown = tree.foot[:2] + _away(light) * tree.height * 0.6
        world.append(_cast(_thin(tree.footprint, 0.6), tree.height * 0.6, light))
        world.append(_blob(rng, crown, _away(light), 0.42 * width))
        world += [_blob(rng, crown + rng.uniform(-0.5, 0.5, 2) * width, _away(light),
                        0.16 * width) for _ in range(6)]
    corners = np.concatenate(world)
    s, d = road.to_street(corners[:, 0], corners[:, 1], corners[:, 0], rounds=12)
    return np.split(np.stack([s, d], axis=1), np.cumsum([len(part) for part in world])[:-1])


def contact_outline(prop: Prop, light: Light) -> np.ndarray:
    """Return the shadow that a thing casts on the ground, a world polygon (k, 2)."""
    return _cast(_thin(prop.footprint, 0.9), prop.height * 0.92, light)


def _away(light: Light) -> np.ndarray:
    """Return how far a shadow reaches a metre of height, (2,) world."""
    sun = light.towards_sun
    return np.asarray(-sun[:2] / sun[2])


def _cast(footprint: np.ndarray, height: float, light: Light) -> np.ndarray:
    """Return the outline of a prism's shadow (k, 2)."""
    points = np.concatenate([footprint, footprint + _away(light) * height])
    return cv2.convexHull(points.astype(np.float32)).reshape(-1, 2).astype(np.float64)


def _thin(footprint: np.ndarray, share: float) -> np.ndarray:
    middle = footprint.mean(axis=0)
    return np.asarray(middle + (footprint - middle) * share)


def _blob(rng: np.random.Generator, centre: np.ndarray, away: np.ndarray,
          radius: float) -> np.ndarray:
    """Return a ragged ellipse, drawn out along the light: the shadow of leaves."""
    turn = np.linspace(0, 2 * np.pi, 25)[:-1]
    ragged = radius * (1 + 0.14 * rng.standard_normal(24))
    along = away / max(float(np.linalg.norm(away)), 1e-6)
    across = np.array([-along[1], along[0]])
    stretch = np.sqrt(1 + float(away @ away))
    return np.asarray(centre + (ragged * np.cos(turn) * stretch)[:, None] * along
                      + (ragged * np.sin(turn))[:, None] * across)

