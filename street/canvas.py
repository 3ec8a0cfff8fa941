"""Draws polygons, meshes and textured planes on the pinhole canvas, nearest last."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .light import Light
from .mesh import Mesh
from .planes import draw_surface, Surface
from .texture import Texture
from .view import fixed, NEAR_M, Pose, SHIFT, shrunk, View

# Beyond this distance fine details are smaller than a pixel.
_FINE_M = 38.0


@dataclass(frozen=True, eq=False)
class Polygons:
    """
    Convex polygons ready to be filled.

    :ivar outlines: (k, 2) int32 fixed-point pixels each.
    :ivar fills: BGR and class id each.
    :ivar unseen: whether only the class id is drawn.
    """

    outlines: list[np.ndarray]
    fills: list[list[int]]
    unseen: list[bool]


class _Faces:
    """The faces of many meshes that look at the camera; by mesh, then the farthest first."""

    def __init__(self, meshes: Sequence[tuple[Mesh, float]], pose: Pose) -> None:
        parts = [mesh for mesh, _ in meshes]
        counts = [len(mesh.faces) for mesh in parts]
        owner = np.repeat(np.arange(len(parts)), counts)
        first = np.cumsum([0, *(len(mesh.vertices) for mesh in parts)])[:-1]
        centres = np.concatenate([mesh.centres for mesh in parts])
        normals = np.concatenate([mesh.normals for mesh in parts])
        away = centres - pose.centre
        facing = (away * normals).sum(axis=1)
        near = (away * away).sum(axis=1) < _FINE_M ** 2
        shown = (facing < 0) | np.concatenate([mesh.two_sided for mesh in parts])
        keep = np.flatnonzero(shown & (near | ~np.concatenate([mesh.fine for mesh in parts])))
        distance = np.sqrt((away[keep] ** 2).sum(axis=1))
        bias = np.concatenate([mesh.bias_m for mesh in parts])[keep]
        order = np.lexsort((bias - distance, owner[keep]))
        keep, self.distance = keep[order], distance[order]
        self.owner = owner[keep]
        self.ray = away[keep] / self.distance[:, None]
        self.normals = np.where(facing[keep, None] > 0, -normals[keep], normals[keep])
        self.sunlit = np.array([sunlit for _, sunlit in meshes])[self.owner]
        self.colours = np.concatenate([mesh.colours for mesh in parts])[keep]
        self.gloss = np.concatenate([mesh.gloss for mesh in parts])[keep]
        self.glow = np.concatenate([mesh.glow for mesh in parts])[keep]
        self.labels = np.concatenate([mesh.labels for mesh in parts])[keep]
        self.unseen = np.concatenate([mesh.unseen for mesh in parts])[keep]
        # Vertices stay shared, so neighbouring faces meet in exactly the same pixels.
        self.vertices = np.concatenate([mesh.vertices for mesh in parts])
        self.corners = np.concatenate([mesh.faces for mesh in parts])[keep]
        self.corners = self.corners + first[self.owner][:, None]


class Canvas:
    """
    One frame's drawing: colours and labels in one image, so that their edges coincide.

    :ivar pixels: (height, width, 4) uint8, BGR and the class id.
    """

    def __init__(self, view: View, pose: Pose, light: Light) -> None:
        self.view, self.pose, self.light = view, pose, light
        self.pixels = np.empty((*view.size, 4), np.uint8)

    def prepare(self, meshes: Sequence[tuple[Mesh, float]]) -> 'list[Polygons]':
        """
        Shade and project meshes, all at once because that is much faster than one by one.

        :param meshes: meshes whose vertices are in the world, each with how much sun reaches it.
        :return: the polygons of each mesh that look at the camera, the nearest last.
        """
        faces = _Faces(meshes, self.pose)
        colours = self._shade(faces)
        haze = self.light.haze(faces.distance)[:, None]
        colours = colours * (1 - haze) + self.light.horizon * haze
        fills = np.concatenate([colours, faces.labels[:, None]], axis=1)
        points = self.pose.to_camera(faces.vertices)
        return self.polygons(points[faces.corners], fills, faces.unseen, faces.owner,
                             len(meshes))

    def _shade(self, faces: '_Faces') -> np.ndarray:
        """Return (n, 3) BGR colours: own colour in its light, plus what it mirrors."""
        gain = self.light.gain(faces.normals, faces.sunlit)
        gain = np.where(faces.glow[:, None] > 0, 1.0, gain)
        facing = (faces.ray * faces.normals).sum(axis=1, keepdims=True)
        mirror_up = faces.ray[:, 2:] - 2 * facing * faces.normals[:, 2:]
        sky = np.clip((mirror_up - 0.02) / 0.5, 0, 1)
        ground = self.light.ambient ** 0.45 * 62.0
        mirrored = ground * (1 - sky) + self.light.horizon * sky
        # Glossier where the sight line grazes the surface (Fresnel).
        gloss = faces.gloss[:, None] * (0.3 + 0.7 * (1 - np.abs(facing)) ** 2)
        return np.asarray(faces.colours * gain * (1 - 0.5 * gloss) + mirrored * gloss)

    def polygons(self, corners: np.ndarray, fills: np.ndarray, unseen: np.ndarray,
                 owner: np.ndarray, owners: int) -> list[Polygons]:
        """
        Cut, project and sort out polygons that are outside the canvas.

        :param corners: (n, k, 3) in optical axes; parts nearer than NEAR_M are cut off.
        :param fills: (n, 4) BGR and class id.
        :param unseen: (n,) bool: only the class id is drawn.
        :param owner: (n,) ascending: which of the results each polygon belongs to.
        """
        depth = corners[..., 2]
        whole = np.asarray((depth > NEAR_M).all(axis=1))
        cut = ~whole & np.asarray((depth > NEAR_M).any(axis=1))
        points = fixed(self.view.project(np.where(whole[:, None, None], corners, 1.0)))
        keep = np.flatnonzero(cut | (whole & self._inside(points)))
        outlines = list(points[keep])
        for place in np.flatnonzero(cut[keep]).tolist():
            outlines[place] = fixed(self.view.project(clip_near(corners[keep[place]])))
        colours = np.clip(fills[keep] + 0.5, 0, 255).astype(np.uint8).tolist()
        edges = np.searchsorted(owner[keep], np.arange(owners + 1)).tolist()
        hidden = unseen[keep].tolist()
        return [Polygons(outlines[start:stop], colours[start:stop], hidden[start:stop])
                for start, stop in zip(edges[:-1], edges[1:], strict=True)]

    def fill(self, polygons: Polygons) -> None:
        """Fill polygons in their order."""
        for outline, colour, unseen in zip(polygons.outlines, polygons.fills, polygons.unseen,
                                           strict=True):
            if unseen:
                self._fill_label(outline, colour[3])
            else:
                cv2.fillConvexPoly(self.pixels, outline, colour, cv2.LINE_8, SHIFT)

    def _fill_label(self, outline: np.ndarray, label: int) -> None:
        low = np.maximum(outline.min(axis=0) >> SHIFT, 0)
        high = np.minimum((outline.max(axis=0) >> SHIFT) + 2, self.view.size[::-1])
        if (high <= low).any():
            return
        mask = np.zeros((high - low)[::-1], np.uint8)
        cv2.fillConvexPoly(mask, outline - (low << SHIFT), 255, cv2.LINE_8, SHIFT)
        self.pixels[low[1]:high[1], low[0]:high[0], 3][mask > 0] = label

    def _inside(self, points: np.ndarray) -> np.ndarray:
        """Return (n,) bool: whether polygons (n, k, 2) of fixed-point pixels meet the canvas."""
        low, high = points.min(axis=1), points.max(axis=1)
        limit = (np.array(self.view.size[::-1]) << SHIFT)
        return (high > -1 << SHIFT).all(axis=1) & (low < limit).all(axis=1)

    def outline_mask(self, corners: np.ndarray, mask: np.ndarray) -> None:
        """Set mask (canvas-sized uint8) to 255 inside a polygon (k, 3) in optical axes."""
        clipped = clip_near(corners)
        if len(clipped) >= 3:
            points = shrunk(self.view.project(clipped))
            cv2.fillPoly(mask, [fixed(points)], 255, cv2.LINE_8, SHIFT)

    def plane(self, texture: Texture, origin: np.ndarray, right: np.ndarray, down: np.ndarray,
              gain: np.ndarray, label: int, *, hull: bool = False) -> None:
        """
        Draw a textured parallelogram.

        :param origin: (3,) world, the texture's top left corner.
        :param right: (3,) world vector along the whole top edge.
        :param down: (3,) world vector along the whole left edge.
        :param gain: (3,) factors on the texture's BGR.
        :param hull: label the holes of a cut-out as well (a fence of bars is one fence), as far
            as the texture says they count.
        """
        turn = self.pose.rotation
        look = (tuple(gain.tolist()), tuple(self.light.horizon.tolist()))
        draw_surface(self.pixels, self.view, Surface(
            texture, self.pose.to_camera(origin), turn @ right, turn @ down, look,
            self.light.haze_per_m, label, hull))


def clip_near(corners: np.ndarray) -> np.ndarray:
    """Return the part of a polygon (k, 3) beyond NEAR_M (Sutherland and Hodgman)."""
    depth = corners[:, 2] - NEAR_M
    if (depth > 0).all():
        return corners
    kept = []
    for index in range(len(corners)):
        a, b = corners[index - 1], corners[index]
        da, db = depth[index - 1], depth[index]
        if (da > 0) != (db > 0):
            kept.append(a + (b - a) * (da / (da - db)))
        if db > 0:
            kept.append(b)
    return np.array(kept).reshape(-1, 3)
