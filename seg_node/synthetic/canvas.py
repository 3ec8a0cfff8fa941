"""Draws polygons, meshes and textured planes on the pinhole canvas, nearest last."""

import cv2
import numpy as np

from .light import Light
from .mesh import Mesh
from .texture import Texture
from .view import NEAR_M, Pose, View

_SHIFT = 4
_FAR_PX = 20000.0
# A textured plane is cut where its depth has grown by this much, to pick mip levels for each.
_DEPTH_STEP = 1.7


class Canvas:
    """
    One frame's drawing: colours and labels in one image, so that their edges coincide.

    :ivar pixels: (height, width, 4) uint8, BGR and the class id.
    """

    def __init__(self, view: View, pose: Pose, light: Light) -> None:
        self.view, self.pose, self.light = view, pose, light
        self.pixels = np.empty((*view.size, 4), np.uint8)

    def mesh(self, mesh: Mesh, sunlit: float = 1.0) -> None:
        """Draw a mesh whose vertices are in the world; sunlit is 0 in shadow, 1 in the sun."""
        corners = mesh.vertices[mesh.faces]
        away = corners.mean(axis=1) - self.pose.centre
        facing = (away * mesh.normals).sum(axis=1)
        keep = np.flatnonzero((facing < 0) | mesh.two_sided)
        away, normals = away[keep], mesh.normals[keep]
        normals = np.where(facing[keep, None] > 0, -normals, normals)
        distance = np.linalg.norm(away, axis=1)
        order = np.argsort(-(distance - mesh.bias_m[keep]), kind='stable')
        keep, normals, away = keep[order], normals[order], away[order]
        distance = distance[order]
        colours = self._shade(mesh, keep, normals, away / distance[:, None], sunlit)
        haze = self.light.haze(distance)[:, None]
        colours = colours * (1 - haze) + self.light.horizon * haze
        fills = np.concatenate([colours, mesh.labels[keep, None]], axis=1)
        # From the vertices, not the corners: neighbours then share exactly the same pixels.
        self.polygons(self.pose.to_camera(mesh.vertices)[mesh.faces[keep]], fills)

    def _shade(self, mesh: Mesh, keep: np.ndarray, normals: np.ndarray, ray: np.ndarray,
               sunlit: float) -> np.ndarray:
        """Return (n, 3) BGR colours: own colour in its light, plus what it mirrors."""
        gain = self.light.gain(normals, sunlit)
        gain = np.where(mesh.glow[keep, None] > 0, 1.0, gain)
        mirror = ray - 2 * (ray * normals).sum(axis=1, keepdims=True) * normals
        sky = np.clip((mirror[:, 2:] + 0.05) / 0.45, 0, 1)
        ground = self.light.ambient ** 0.45 * 70.0
        mirrored = ground * (1 - sky) + self.light.horizon * sky
        gloss = mesh.gloss[keep, None]
        # Glossier where the sight line grazes the surface (Fresnel).
        grazing = 1 - np.abs((ray * normals).sum(axis=1, keepdims=True))
        gloss = gloss * (0.35 + 0.65 * grazing ** 2)
        return mesh.colours[keep] * gain * (1 - 0.5 * gloss) + mirrored * gloss

    def polygons(self, corners: np.ndarray, fills: np.ndarray) -> None:
        """
        Fill convex polygons in the given order.

        :param corners: (n, k, 3) in optical axes; parts nearer than NEAR_M are cut off.
        :param fills: (n, 4) BGR and class id.
        """
        depth = corners[..., 2]
        whole = (depth > NEAR_M).all(axis=1)
        part = ~whole & (depth > NEAR_M).any(axis=1)
        safe = np.where(whole[:, None, None], corners, 1.0)
        points = _fixed(self.view.project(safe))
        colours = np.clip(fills + 0.5, 0, 255).astype(np.uint8).tolist()
        for index in np.flatnonzero(whole | part).tolist():
            outline = points[index] if whole[index] else self._clipped(corners[index])
            cv2.fillConvexPoly(self.pixels, outline, colours[index], cv2.LINE_8, _SHIFT)

    def _clipped(self, corners: np.ndarray) -> np.ndarray:
        return _fixed(self.view.project(clip_near(corners)))

    def outline_mask(self, corners: np.ndarray, mask: np.ndarray) -> None:
        """Set mask (canvas-sized uint8) to 255 inside a polygon (k, 3) in optical axes."""
        clipped = clip_near(corners)
        if len(clipped) >= 3:
            cv2.fillPoly(mask, [_fixed(self.view.project(clipped))], 255, cv2.LINE_8, _SHIFT)

    def plane(self, texture: Texture, origin: np.ndarray, right: np.ndarray, down: np.ndarray,
              gain: np.ndarray, label: int, *, hull: bool = False) -> None:
        """
        Draw a textured parallelogram.

        :param origin: (3,) world, the texture's top left corner.
        :param right: (3,) world vector along the whole top edge.
        :param down: (3,) world vector along the whole left edge.
        :param gain: (3,) factors on the texture's BGR.
        :param hull: label the holes of a cut-out as well (railings are one fence).
        """
        turn = self.pose.rotation
        o, u, v = self.pose.to_camera(origin), turn @ right, turn @ down
        near = o[2] + min(0.0, v[2])
        start, end = _in_front(near, u[2])
        while end - start > 1e-6:
            depth = near + start * u[2]
            if u[2] > 0:
                stop = min(end, start + (_DEPTH_STEP - 1) * depth / u[2])
            elif u[2] < 0:
                stop = min(end, start + (1 - 1 / _DEPTH_STEP) * depth / -u[2])
                stop = end if end - stop < 1e-3 else stop
            else:
                stop = end
            self._strip(texture, (o, u, v), (start, stop), gain, label, hull)
            start = stop

    def _strip(self, texture: Texture, plane: tuple[np.ndarray, np.ndarray, np.ndarray],
               span: tuple[float, float], gain: np.ndarray, label: int, hull: bool) -> None:
        """Draw the part of a plane between two shares of its width."""
        o, u, v = plane
        corners = np.array([o + span[0] * u, o + span[1] * u, o + span[1] * u + v,
                            o + span[0] * u + v])
        if corners[:, 2].min() < NEAR_M * 0.99:
            return
        points = self.view.project(corners)
        low = np.maximum(np.floor(points.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, self.view.size[::-1])
        if (high <= low).any():
            return
        edge = np.linalg.norm(points[[1, 2, 3, 0]] - points, axis=1)
        texels = texture.level(
            _halvings(texture.size[0], max(edge[1], edge[3])),
            _halvings(texture.size[1] * (span[1] - span[0]), max(edge[0], edge[2])))
        to_canvas = self.view.matrix @ np.stack(
            [u / texels.shape[1], v / texels.shape[0],
             o + 0.5 * u / texels.shape[1] + 0.5 * v / texels.shape[0]], axis=1)
        if abs(np.linalg.det(to_canvas)) < 1e-9:
            return
        shift = np.array([[1, 0, low[0]], [0, 1, low[1]], [0, 0, 1.0]])
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        patch = cv2.warpPerspective(texels, np.linalg.inv(to_canvas) @ shift, size,
                                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                    borderMode=cv2.BORDER_REPLICATE)
        mask = np.zeros(size[::-1], np.uint8)
        cv2.fillConvexPoly(mask, _fixed(points - low), 255, cv2.LINE_8, _SHIFT)
        target = self.pixels[low[1]:high[1], low[0]:high[0]]
        if hull:
            target[..., 3][mask > 0] = label
        if texture.cutout:
            alpha = cv2.extractChannel(patch, 3)
            cv2.bitwise_and(mask, cv2.compare(alpha, 127, cv2.CMP_GT), dst=mask)
        patch = cv2.LUT(patch, self._lut(gain, float(corners.mean(axis=0)[2]), label))
        cv2.copyTo(patch, mask, target)

    def _lut(self, gain: np.ndarray, distance_m: float, label: int) -> np.ndarray:
        """Return (1, 256, 4): light and haze for the colours, the class id for alpha."""
        haze = self.light.haze(max(distance_m, 0.0))
        table = np.empty((1, 256, 4), np.uint8)
        steps = np.arange(256.0)[:, None]
        lit = steps * gain * (1 - haze) + self.light.horizon * haze
        table[0, :, :3] = np.clip(lit + 0.5, 0, 255)
        table[0, :, 3] = label
        return table


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


def _fixed(points: np.ndarray) -> np.ndarray:
    """Return pixels as OpenCV's fixed-point integers."""
    return np.rint(np.clip(points, -_FAR_PX, _FAR_PX) * (1 << _SHIFT)).astype(np.int32)


def _in_front(near: float, slope: float) -> tuple[float, float]:
    """Return the shares of a plane's width whose depth near + share * slope is in front."""
    if near >= NEAR_M and near + slope >= NEAR_M:
        return 0.0, 1.0
    if abs(slope) < 1e-9:
        return 0.0, 0.0
    cut = (NEAR_M - near) / slope
    return (min(max(cut, 0.0), 1.0), 1.0) if slope > 0 else (0.0, min(max(cut, 0.0), 1.0))


def _halvings(texels: float, pixels: float) -> int:
    """Return how often an axis is halved so that a texel is about as large as a pixel."""
    return max(0, int(np.floor(np.log2(max(texels / max(pixels, 0.5), 1.0)) + 0.35)))
