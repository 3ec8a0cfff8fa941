"""
Measure how much of the camera's own vehicle a model takes for drivable.

    python -m training.bonnets MODEL FRAMES

Paints a bonnet or dashboard (street/bonnet.py) over each labelled frame, one that no training has
met, and tells the share of its pixels that are drivable, and how well the rest of the road is
found.
"""

import argparse
from dataclasses import dataclass
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seg_node.devices import backend as backends
from seg_node.errors import ConfigError
from seg_node.model.card import load_card, ModelCard
from seg_node.model.taxonomy import load_taxonomy
from street.bonnet import draw_bonnet

from .data import Pairs
from .pseudo import probabilities

# Of none of the classes; training draws its bonnets from other random numbers.
_OWN, _STREAM = 254, 77_000


@dataclass
class Count:
    """
    Pixels of one frame.

    :ivar own: of the vehicle, and how many of these are drivable.
    :ivar road: where road is found and is, and where one of both.
    """

    own: tuple[int, int]
    road: tuple[int, int]


def count(card: ModelCard, backend: backends.Backend, image: np.ndarray, labels: np.ndarray,
          road: int, number: int) -> Count:
    """
    Return the count of one frame.

    :param image: (height, width, 3) uint8 BGR.
    :param road: id of what is drivable in the labels.
    """
    rng = np.random.default_rng([_STREAM, number])
    image, labels = draw_bonnet(rng).painted(np.ascontiguousarray(image), labels, _OWN)
    best = probabilities(card, backend, image, card.input.short_side).argmax(axis=2)
    drivable = np.isin(best, [entry.id for entry in card.main_output.classes.classes
                              if entry.drivable])
    own, known = labels == _OWN, labels < _OWN
    truth = labels == road
    return Count((int(own.sum()), int((drivable & own).sum())),
                 (int((drivable & truth & known).sum()), int(((drivable | truth) & known).sum())))


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('model', help='model folder, its labels as logits or probabilities')
    parser.add_argument('frames', type=Path, help='folder with images/ and labels/ of camvid11')
    options = parser.parse_args()
    try:
        card = load_card(options.model)
        if card.main_output.kind not in ('logits', 'probabilities'):
            raise ConfigError(f'{card.directory} gives {card.main_output.kind}; it must give '
                              'logits or probabilities')
        backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'],
                                threads=0)
        pairs = Pairs(options.frames, 11)
    except (ConfigError, ValueError) as error:
        raise SystemExit(str(error)) from None
    road = load_taxonomy('camvid11').id_of('Road', 'the frames')
    counts = [count(card, backend, image[..., ::-1], labels, road, number)
              for number, (image, labels) in enumerate(tqdm(
                  zip(pairs.images, pairs.labels, strict=True), total=len(pairs),
                  mininterval=10))]
    shares = np.array([taken / max(1, own) for own, taken in (one.own for one in counts)])
    both, either = np.sum([one.road for one in counts], axis=0)
    total, taken = np.sum([one.own for one in counts], axis=0)
    print(json.dumps({
        'frames': len(counts), 'own_drivable': round(taken / total, 4),
        'own_drivable_worst': round(float(shares.max()), 4),
        'frames_above_2_percent': int((shares > 0.02).sum()),
        'road_iou': round(both / either, 4)}))


if __name__ == '__main__':
    main()
