"""The labels of the node with a card against the library's own, on real pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
import statistics
import time

import cv2
import numpy as np

from seg_node.devices.backend import load, ONNX_RUNTIME
from seg_node.devices.checked import test_pictures
from seg_node.devices.host import HostSegmenter
from seg_node.errors import ConfigError, FrameError
from seg_node.frame import Demand, Frame, StageClock
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import ModelCard
from seg_node.playback.video import Video
from seg_node.scoring.picture_file import PICTURE_SUFFIXES, read_picture

from .recipe import Labeller

#: The least share of pixels with the library's label.
LEAST_EQUAL = 0.999


@dataclass(frozen=True)
class Agreement:
    """
    How far the node and the library agree.

    :ivar equal: share of all pixels with the same label; ``worst`` of the worst picture.
    :ivar seen: how many classes occurred.
    :ivar ms: median time of the network.
    """

    equal: float
    worst: float
    pictures: int
    seen: int
    ms: float
    device: str
    network: str


def pictures(places: Sequence[Path], most: int) -> list[np.ndarray]:
    """
    Return pictures, (height, width, 3) uint8 BGR: of files, folders and videos; else the shipped.

    :raises ConfigError: one cannot be read, or there is none.
    """
    if not places:
        return test_pictures()[:most]
    found: list[np.ndarray] = []
    for place in places:
        if not place.exists():
            raise ConfigError(f'--pictures {place}: there is nothing. Give pictures, folders of '
                              'them, or videos.')
        files = ([place] if place.is_file() else
                 sorted(path for path in place.rglob('*') if not path.name.startswith('.')
                        and path.suffix.lower() in PICTURE_SUFFIXES))
        found += [image for file in files[:: max(1, len(files) // most)]
                  for image in (_frames(file, most) if _is_video(file)
                                else [read_picture(file)])]
    if not found:
        raise ConfigError(f'--pictures {", ".join(map(str, places))} hold no picture.')
    return found[:most]


def _is_video(path: Path) -> bool:
    """Return whether a file is one by its name: all that is no picture, as for replay."""
    return path.suffix.lower() not in ('', *PICTURE_SUFFIXES)


def _frames(path: Path, most: int) -> Iterator[np.ndarray]:
    """Yield at most so many frames of a video, spread evenly if it says how many it has."""
    with Video(path) as video:
        step = max(1, (video.count or 0) // most)
        for frame in islice(video.frames(), 0, most * step, step):
            yield frame.bgr()


def agreement(card: ModelCard, label: Labeller, images: Sequence[np.ndarray],
              name: str = ONNX_RUNTIME) -> Agreement:
    """
    Return how far the node's labels are the library's.

    :param name: of the backend.
    :raises ConfigError: the node refuses a picture.
    """
    backend = load(name, card, threads=0)
    segmenter = HostSegmenter(card, backend)
    lut = card.main_output.class_lut
    equal, seen, times = [], set[int](), []
    network = ''
    try:
        for image in images:
            clock = StageClock()
            message = ImageMessage(Header(0, 0, ''), *image.shape[:2], 'bgr8', False,
                                   image.shape[1] * 3, np.ascontiguousarray(image).reshape(-1))
            [result] = segmenter.segment([Frame('', message)], Demand(), clock)
            if isinstance(result, FrameError):
                raise ConfigError(f'the node refuses a picture with this card: {result}')
            truth = label(np.ascontiguousarray(image[..., ::-1])).astype(np.uint8)
            truth = truth if lut is None else cv2.LUT(truth, lut)
            equal.append(float((result.labels == truth).mean()))
            seen |= set(np.unique(truth).tolist())
            times.append(clock.ms['network'])
            network = str(result.geometry.network)
    finally:
        segmenter.close()
    return Agreement(float(np.mean(equal)), min(equal), len(equal), len(seen),
                     round(statistics.median(times), 1), backend.description, network)


def require(found: Agreement, own: str) -> None:
    """Refuse a card whose labels are not the library's."""
    if found.equal < LEAST_EQUAL:
        raise ConfigError(
            f'only {found.equal:.3%} of the labels on {found.pictures} pictures are those of '
            f'{own} (worst picture {found.worst:.3%}); wanted are {LEAST_EQUAL:.1%}. No card was '
            'written. Something is done to the pictures or scores that the card does not say.')


def now() -> str:
    """Return today's date."""
    return time.strftime('%Y-%m-%d')
