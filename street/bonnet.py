"""The camera's own vehicle at the bottom of a picture: bonnets and dashboards of many shapes."""

from dataclasses import dataclass

import cv2
import numpy as np

from .camvid import CAR

# Paints as BGR display values, lit by a bright sky.
_PAINTS = ((226, 226, 228), (176, 174, 172), (118, 116, 114), (44, 42, 42), (28, 28, 28),
           (40, 40, 150), (120, 70, 40), (70, 40, 30), (50, 66, 92), (40, 90, 60), (60, 150, 190))


@dataclass(frozen=True, eq=False)
class Bonnet:
    """
    One vehicle as its camera sees it: what is below an outline.

    Lengths are shares of the picture's height, places across it -1 (left edge) to 1 (right).

    :ivar crest: place of the outline's highest point.
    :ivar rise: how high it stands there.
    :ivar fall: (2,) how far the outline has come down at a distance of 1 left and right of it.
    :ivar roundness: exponent of that fall; 2 is a parabola, more is a flat top with shoulders.
    :ivar paint: (3,) BGR.
    :ivar gloss: how much of the world it mirrors, 0 to 1; little: a dashboard.
    :ivar wings: (place, width, height) of what stands higher: mudguards, a scoop, instruments.
    :ivar creases: places of the edges pressed into the sheet.
    :ivar gap: darkness of the line at its front edge, 0 to 1.
    :ivar sill: height of the black border of the windscreen at the very bottom.
    :ivar blur: width of its front edge's blur, as it is too near for the lens.
    """

    crest: float
    rise: float
    fall: tuple[float, float]
    roundness: float
    paint: np.ndarray
    gloss: float
    wings: tuple[tuple[float, float, float], ...]
    creases: tuple[float, ...]
    gap: float
    sill: float
    blur: float
    seed: int

    def painted(self, image: np.ndarray, labels: np.ndarray,
                label: int = CAR) -> tuple[np.ndarray, np.ndarray]:
        """
        Return a picture with the vehicle in front of it, and its labels.

        :param image: (height, width, 3) uint8 BGR; it is mirrored in the paint.
        :param labels: (height, width) uint8.
        :param label: what the vehicle's pixels become.
        """
        height, width = labels.shape
        x = np.linspace(-1, 1, width)
        top = height * (1 - self._outline(x))
        start = max(0, int(top.min()) - 3)
        if start >= height:
            return image, labels
        depth = np.arange(start, height)[:, None] + 0.5 - top[None, :]
        image, labels = image.copy(), labels.copy()
        sheet = self._sheet(image, x, top, depth, start)
        soft = max(0.7, self.blur * height)
        cover = np.clip(depth / soft + 0.5, 0, 1)[..., None]
        part = image[start:]
        image[start:] = np.clip(part * (1 - cover) + sheet * cover + 0.5, 0, 255).astype(np.uint8)
        labels[start:][depth > 0] = label
        return image, labels

    def _outline(self, x: np.ndarray) -> np.ndarray:
        """Return the outline's height above the picture's bottom, as shares of its height."""
        away = x - self.crest
        fall = np.where(away < 0, *self.fall) * np.abs(away) ** self.roundness
        wings = sum(height * np.exp(-np.abs((x - place) / width) ** 3)
                    for place, width, height in self.wings)
        return np.asarray(self.rise - fall + wings)

    def _sheet(self, image: np.ndarray, x: np.ndarray, top: np.ndarray, depth: np.ndarray,
               start: int) -> np.ndarray:
        """Return (rows, width, 3) float32: the vehicle's surface from a row down."""
        height, width = image.shape[:2]
        rng = np.random.default_rng(self.seed)
        # 0 at the front edge, where the sheet is seen at a grazing angle, 1 at the bottom.
        near = np.clip(depth / np.maximum(height - top, 1)[None, :], 0, 1).astype(np.float32)
        sky, all_of_it = float(image[:max(1, height // 3)].mean()), float(image.mean())
        level = np.float32(0.15 + 0.85 * (sky + all_of_it) / 310)
        shade = 1 - 0.35 * (1 - near) ** 2 + self._pressed(x, near)
        surface = self.paint.astype(np.float32) * level * shade[..., None]
        mirrored = self._mirrored(image, top, depth, rng)
        share = self.gloss * (0.25 + 0.75 * (1 - near) ** 2)
        surface = surface * (1 - share[..., None]) + mirrored * share[..., None]
        glint = np.exp(-((x[None, :] - rng.uniform(-1.2, 1.2)) / 0.08) ** 2
                       - ((near - rng.uniform(0, 1)) / 0.25) ** 2)
        surface += (glint * self.gloss * sky * rng.uniform(0, 1.5))[..., None]
        edge = np.exp(-np.maximum(depth, 0) / (0.006 * height))
        surface *= (1 - self.gap * edge)[..., None]
        sill = np.arange(start, height)[:, None] + 0 * depth > height * (1 - self.sill)
        surface[sill] = surface[sill] * 0.15 + 8
        grain = rng.standard_normal((*depth.shape, 1), dtype=np.float32)
        return np.asarray(surface + 1.5 * grain)

    def _pressed(self, x: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Return what creases, which run together towards the front, add to the shade."""
        shade = np.zeros_like(near)
        for place in self.creases:
            line = self.crest + (place - self.crest) * (0.75 + 0.5 * near)
            across = (x[None, :] - line) * 40
            shade += 0.06 * np.tanh(across) * np.exp(-np.abs(across) / 6)
        return shade

    def _mirrored(self, image: np.ndarray, top: np.ndarray, depth: np.ndarray,
                  rng: np.random.Generator) -> np.ndarray:
        """Return what the sheet mirrors: the world above its edge, upside down, drawn long."""
        height, width = image.shape[:2]
        reach = rng.uniform(1.5, 4.0)
        rows = (top[None, :] - 4 - np.maximum(depth, 0) * reach - 0.02 * height).astype(np.float32)
        rows = np.clip(rows + rng.uniform(-0.25, 0.0) * height, 0, height - 1)
        columns = np.broadcast_to(np.arange(width, dtype=np.float32)[None, :], rows.shape)
        seen = cv2.remap(image, np.ascontiguousarray(columns), rows, cv2.INTER_LINEAR)
        wide = 0.01 * height * rng.uniform(0.3, 4)
        return np.asarray(cv2.GaussianBlur(seen, (0, 0), wide, sigmaY=0.5 * wide), np.float32)


def draw_bonnet(rng: np.random.Generator) -> Bonnet:
    """Return a vehicle by lot: seven in ten are bonnets, the others dashboards."""
    dashboard = bool(rng.random() < 0.3)
    rise = float(rng.uniform(0.02, 0.22) if rng.random() < 0.8 else rng.uniform(0.2, 0.34))
    if dashboard:
        paint = np.full(3, rng.uniform(12, 70)) * rng.uniform(0.9, 1.1, 3)
        gloss = rng.uniform(0.0, 0.15)
    else:
        paint = np.array(_PAINTS[int(rng.integers(len(_PAINTS)))]) * rng.uniform(0.7, 1.15)
        gloss = rng.uniform(0.1, 0.75)
    return Bonnet(
        crest=float(rng.normal(0, 0.35)), rise=rise, fall=_fall(rng, rise),
        roundness=float(rng.uniform(1.6, 5)), paint=paint + rng.uniform(-6, 6, 3),
        gloss=float(gloss), wings=_wings(rng, rise),
        creases=tuple(rng.uniform(-0.8, 0.8, int(rng.integers(0, 5)))),
        gap=float(rng.uniform(0, 0.6)), sill=float(max(0.0, rng.uniform(-0.1, 0.06))),
        blur=float(rng.uniform(0, 0.012)), seed=int(rng.integers(2 ** 31)))


def _fall(rng: np.random.Generator, rise: float) -> tuple[float, float]:
    """Return the fall to both sides: alike, as the camera is near the middle; or one-sided."""
    low, high = np.log(0.05), np.log(1.6)
    both = np.exp(rng.uniform(low, high)) * np.exp(rng.normal(0, 0.3, 2))
    if rng.random() < 0.15:
        both = np.exp(rng.uniform(low, np.log(4.0), 2))
    return float(rise * both[0]), float(rise * both[1])


def _wings(rng: np.random.Generator, rise: float) -> tuple[tuple[float, float, float], ...]:
    """Return a pair of mudguards, one bump, or nothing."""
    height, width = float(rise * rng.uniform(0.1, 0.6)), float(rng.uniform(0.1, 0.35))
    kind = rng.random()
    if kind < 0.3:
        place = float(rng.uniform(0.5, 1.1))
        return (-place, width, height), (place, width, height)
    if kind < 0.5:
        return ((float(rng.uniform(-0.9, 0.9)), width, height),)
    return ()
