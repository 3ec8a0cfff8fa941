"""Augmentation: paste rare things, move and scale, change the light."""

from dataclasses import dataclass

import cv2
import numpy as np

from street.bonnet import draw_bonnet
from street.conditions import changed, CONDITIONS

VOID = 255
PAD = 127  # the cards' pad_value
# A label of this plus a class id says of a pixel only that it is not of that class.
NOT = 128


@dataclass(frozen=True)
class Augmentation:
    """
    How strongly samples are changed; calling it makes one sample.

    :ivar crop: (height, width) of the samples.
    :ivar rows: fewest and most rows that the whole image would have after zooming, whatever it
        had before; drawn evenly on a logarithmic scale.
    :ivar rare: class ids that are pasted from another image.
    :ivar paste: how often that happens.
    :ivar focus: how often the crop is placed on a rare thing, where the image has one.
    :ivar bonnet: how often the bottom of a sample is the vehicle that carries the camera.
    :ivar vehicle: class id of that.
    :ivar weather: how often a sample is seen at night, in snow, rain ...: see
        ``street.conditions``, which knows the ids of `camvid11`.
    :ivar recolour: how often each thing of a sample gets a brightness and tint of its own, so that
        shapes tell what it is and not the renderer's colours.
    :ivar band: how often two edges are the grey that fills a picture up to the network's size.
    :ivar light: strength of the photometric changes; 1 = strong, 0 = none.
    """

    crop: tuple[int, int]
    rows: tuple[int, int] = (216, 720)
    rare: tuple[int, ...] = ()
    paste: float = 0.5
    focus: float = 0.0
    bonnet: float = 0.0
    vehicle: int = VOID
    weather: float = 0.0
    light: float = 1.0
    recolour: float = 0.0
    band: float = 0.0
    turn_deg: float = 2.0

    def __call__(self, rng: np.random.Generator, image: np.ndarray, labels: np.ndarray,
                 donor_image: np.ndarray, donor_labels: np.ndarray,
                 ) -> tuple[np.ndarray, np.ndarray]:
        """Return image (h, w, 3) uint8 and labels (h, w) uint8 of the crop's size."""
        if self.rare and rng.random() < self.paste and donor_labels.shape == labels.shape:
            image, labels = _pasted(rng, image, labels, donor_image, donor_labels, self.rare)
        image, labels = self._moved(rng, image, labels)
        if self.recolour and rng.random() < self.recolour:
            image = _recoloured(rng, image, labels)
        if self.weather and rng.random() < self.weather:
            name = list(CONDITIONS)[int(rng.integers(len(CONDITIONS)))]
            # Its light has colours, in BGR.
            image = np.ascontiguousarray(changed(image[..., ::-1], labels, name, rng)[..., ::-1])
        if self.bonnet and rng.random() < self.bonnet:
            # Its paints, too.
            image, labels = draw_bonnet(rng).painted(np.ascontiguousarray(image[..., ::-1]),
                                                     labels, self.vehicle)
            image = np.ascontiguousarray(image[..., ::-1])
        image = _relit(rng, image, self.light)
        if self.band and rng.random() < self.band:
            image, labels = _banded(rng, image, labels)
        return image, labels

    def _moved(self, rng: np.random.Generator, image: np.ndarray, labels: np.ndarray,
               ) -> tuple[np.ndarray, np.ndarray]:
        height, width = labels.shape
        zoom = float(np.exp(rng.uniform(*np.log(self.rows)))) / height
        angle = np.deg2rad(rng.normal(0, self.turn_deg / 2))
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        target = self._target(rng, labels)
        # The crop's middle looks at a point of the source from which it sees as little border
        # as its size allows.
        centre = []
        for axis, side in enumerate((width, height)):
            wanted = self.crop[1 - axis] / zoom
            low, high = sorted((wanted / 2, side - wanted / 2))
            if target is None:
                centre.append(rng.uniform(low, high))
            else:
                near = target[axis] + rng.uniform(-0.4, 0.4) * wanted
                centre.append(min(max(near, low), high))
        cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
        turn = np.array([[cosine * mirror, -sine], [sine * mirror, cosine]])
        offset = np.array(centre) - turn @ (np.array(self.crop[::-1]) / 2)
        inverse = np.column_stack([turn, offset])
        size, flags = self.crop[::-1], cv2.WARP_INVERSE_MAP
        return (cv2.warpAffine(image, inverse, size, flags=flags | cv2.INTER_LINEAR,
                               borderValue=(PAD, PAD, PAD)),
                cv2.warpAffine(labels, inverse, size, flags=flags | cv2.INTER_NEAREST,
                               borderValue=VOID))

    def _target(self, rng: np.random.Generator, labels: np.ndarray) -> tuple[int, int] | None:
        """Return (x, y) of a pixel of a rare class, each class as likely, or None."""
        if not self.focus or rng.random() >= self.focus:
            return None
        present = [c for c in self.rare if (labels == c).any()]
        if not present:
            return None
        rows, columns = np.nonzero(labels == present[rng.integers(len(present))])
        chosen = rng.integers(len(rows))
        return int(columns[chosen]), int(rows[chosen])


def _pasted(rng: np.random.Generator, image: np.ndarray, labels: np.ndarray,
            donor_image: np.ndarray, donor_labels: np.ndarray, rare: tuple[int, ...],
            ) -> tuple[np.ndarray, np.ndarray]:
    """Copy some of the donor's rare classes to the same height, moved sideways."""
    chosen = [c for c in rare if rng.random() < 0.6]
    shift = int(rng.integers(-80, 81))
    mask = np.isin(np.roll(donor_labels, shift, axis=1), chosen)
    # What was rolled around the edge would be cut in two.
    edge = slice(0, shift) if shift > 0 else slice(labels.shape[1] + shift, None)
    mask[:, edge] = False
    image, labels = image.copy(), labels.copy()
    image[mask] = np.roll(donor_image, shift, axis=1)[mask]
    labels[mask] = np.roll(donor_labels, shift, axis=1)[mask]
    return image, labels


def _recoloured(rng: np.random.Generator, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Change brightness, tint and contrast of each connected region of each class by itself."""
    change = np.zeros((*labels.shape, 4), np.float32)  # logarithm of the gain by channel; offset
    for number in np.unique(labels[labels < NOT]):
        count, parts = cv2.connectedComponents((labels == number).astype(np.uint8))
        drawn = np.column_stack([rng.normal(0, 0.3, (count, 1)) + rng.normal(0, 0.08, (count, 3)),
                                 rng.normal(0, 12, count)]).astype(np.float32)
        inside = parts > 0
        change[inside] = drawn[parts[inside]]
    # Soft, as edges are that a lens has drawn.
    change = cv2.GaussianBlur(change, (0, 0), 0.8)
    result = image * np.exp(change[..., :3]) + change[..., 3:]
    return np.clip(result + 0.5, 0, 255).astype(np.uint8)


def _banded(rng: np.random.Generator, image: np.ndarray, labels: np.ndarray,
            ) -> tuple[np.ndarray, np.ndarray]:
    """Fill two opposite edges as a letterbox does, or what is smooth at the edge is a bonnet."""
    image, labels = image.copy(), labels.copy()
    wide, upright = int(rng.integers(1, 17)), rng.random() < 0.2
    for edge in (slice(None, wide), slice(-wide, None)):
        at = (slice(None), edge) if upright else (edge, slice(None))
        image[at], labels[at] = PAD, VOID
    return image, labels


def _relit(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    """Change exposure, gamma, white balance, saturation and sharpness; add noise."""
    if strength == 0:
        return image
    grey = np.arange(256) / 255
    gamma = np.exp(rng.normal(0, 0.25 * strength))
    exposure = np.exp(rng.normal(0, 0.2 * strength))
    contrast = np.exp(rng.normal(0, 0.15 * strength))
    offset = rng.normal(0, 0.04 * strength)
    balance = np.exp(rng.normal(0, 0.06 * strength, 3))
    curve = (grey ** gamma * exposure - 0.45) * contrast + 0.45 + offset
    table = np.clip(curve[:, None] * balance * 255, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table.reshape(256, 1, 3))
    if rng.random() < 0.5:
        grey_image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        amount = float(np.exp(rng.normal(0, 0.3 * strength)))
        image = cv2.addWeighted(image, amount, grey_image, 1 - amount, 0)
    if rng.random() < 0.2 * strength:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.2)))
    if rng.random() < 0.2 * strength:
        noise = rng.normal(0, rng.uniform(2, 8), image.shape).astype(np.float32)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image
