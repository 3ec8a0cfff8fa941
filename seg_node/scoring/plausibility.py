"""Is a card's input what the network was trained with? What figures and pictures tell of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..model.tensors import InputSpec, OutputSpec

#: Beyond this no usual normalisation gets: pixel values as they are end at 255.
_MOST_INPUT = 300.0
#: Below this the pixels make no difference to a network.
_LEAST_INPUT = 1e-3
#: Rows and columns may be this much unevenly reduced before it looks like an exchange of the two.
_UNEVEN = 1.5
#: So much surer and steadier a variant must be than the card, to be told.
_BETTER = {'colour': 1.02, 'scale': 1.05}


@dataclass(frozen=True)
class Reading:
    """
    What a network says of pictures.

    :ivar confidence: mean over the pixels, a fraction of 1.
    :ivar mirrored: share of pixels with the same label in the mirrored picture: what is not
        understood is seldom the same.
    """

    confidence: float
    mirrored: float

    @property
    def sense(self) -> float:
        """How much sense it makes, a fraction of 1."""
        return self.confidence * self.mirrored


#: Labels and confidence, (H, W) uint8 both, of a picture (H, W, 3) uint8 BGR.
Reader = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def contradictions(spec: InputSpec) -> list[str]:
    """Return what cannot be right in the normalisation, each with its mend."""
    if spec.dtype == 'uint8':
        return []
    ends = [[(level * spec.scale - mean) / std for level in (0, 255)]
            for mean, std in zip(spec.mean, spec.std, strict=True)]
    most = max(abs(value) for pair in ends for value in pair)
    for_one = max(spec.mean) <= 1 and max(spec.std) <= 1 and (any(spec.mean) or min(spec.std) < 1)
    told = (f'the network gets values from {min(map(min, ends)):.4g} to '
            f'{max(map(max, ends)):.4g}')
    if for_one and spec.scale == 1:
        return [f'input.mean {list(spec.mean)} and std {list(spec.std)} are for pixels of 0 to 1, '
                f'but scale is 1: {told}. Set scale: 0.00392156862745098.']
    if max(spec.mean) > 2 and spec.scale < 0.01:
        return [f'input.mean {list(spec.mean)} is for pixels of 0 to 255, but scale is '
                f'{spec.scale:.6g}: {told}. Set scale: 1, or divide mean and std by 255.']
    if most > _MOST_INPUT:
        return [f'{told}; no usual normalisation goes beyond {_MOST_INPUT:g}. Look at scale, mean '
                'and std.']
    if max(abs(high - low) for low, high in ends) < _LEAST_INPUT:
        return [f'{told}: all pictures look the same. Look at scale, mean and std.']
    return []


def strange_values(spec: OutputSpec, maps: np.ndarray, size: tuple[int, int]) -> list[str]:
    """
    Return what an output holds that the card's words for it do not mean, each with its mend.

    :param maps: the output for one picture, (channels, h, w).
    :param size: of the network's input, (height, width).
    """
    found = []
    values = np.asarray(maps, np.float32)
    unit = values.min() >= 0 and values.max() <= 1
    if spec.kind == 'logits' and unit and np.allclose(values.sum(axis=0), 1, atol=0.01):
        found.append(f'output {spec.name} is called logits, but its values are 0 to 1 and their '
                     'sum is 1 in each pixel: these are probabilities, and the confidence would '
                     'be far too low. Set kind: probabilities.')
    if spec.kind == 'sigmoid' and spec.activation == 'raw' and unit:
        found.append(f'output {spec.name} is to go through a sigmoid, but its values are 0 to 1 '
                     'already, so that each pixel would become class 1. Set activation: applied.')
    strides = [whole / part for whole, part in zip(size, values.shape[1:], strict=True)]
    if not 1 / _UNEVEN < strides[0] / strides[1] < _UNEVEN:
        found.append(f'output {spec.name} is {values.shape[1]} x {values.shape[2]} for an input '
                     f'of {size[0]} x {size[1]} (height x width): are its axes exchanged? Correct '
                     'layout, or export it with height before width.')
    return found


def one_sided(shares: Mapping[str, float], drivable: np.ndarray) -> list[str]:
    """
    Return what masks cannot be right in, each with its mend.

    :param shares: of all pictures' pixels, by class.
    :param drivable: the ids that are, any array.
    """
    found = []
    most = max(shares, key=shares.__getitem__, default='')
    if most and shares[most] == 1:
        found.append(f'every pixel of every picture is {most}: look at the normalisation, at '
                     'kind, and whether these are its trained weights.')
    if not drivable.any():
        found.append('no class is drivable, so the drivable area is always empty: set drivable: '
                     'true where a car may drive.')
    elif drivable.all():
        found.append('every class is drivable, so the drivable area is always everything: set '
                     'drivable: false where a car may not drive.')
    return found


def variants(spec: InputSpec) -> dict[str, InputSpec]:
    """Return other inputs that are often meant, by what they would change in the card."""
    swapped = (replace(spec, colour='bgr') if spec.colour == 'rgb'
               else replace(spec, colour='rgb'))
    found = {f'colour: {swapped.colour}': swapped}
    if spec.dtype != 'uint8':
        for scale in (spec.scale / 255, spec.scale * 255):
            if 1 / 300 < scale < 2:
                found[f'scale: {scale:.15g}'] = replace(spec, scale=scale)
    return found


def read(reader: Reader, pictures: list[np.ndarray]) -> Reading:
    """Return what a network says of pictures."""
    confidence, mirrored = [], []
    for picture in pictures:
        labels, sure = reader(picture)
        again, _ = reader(np.ascontiguousarray(picture[:, ::-1]))
        confidence.append(float(sure.mean()) / 255)
        mirrored.append(float((labels == again[:, ::-1]).mean()))
    return Reading(float(np.mean(confidence)), float(np.mean(mirrored)))


def suspicions(card: Reading, others: Mapping[str, Reading]) -> list[str]:
    """Return which of the variants makes more sense than the card."""
    found = []
    for change, reading in others.items():
        if reading.sense > _BETTER[change.partition(':')[0]] * card.sense:
            found.append(
                f'with {change} the network is surer and steadier ({reading.sense:.3f} against '
                f'{card.sense:.3f}: confidence {reading.confidence:.3f}, equal when mirrored '
                f'{reading.mirrored:.3f}). Is the card\'s {change.partition(":")[0]} right?')
    return found
