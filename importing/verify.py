"""The labels of the node with a card against the library's own, on real pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
import statistics
import time

import cv2
import numpy as np

from seg_node.devices.backend import load
from seg_node.devices.checked import test_pictures
from seg_node.devices.host import HostSegmenter
from seg_node.errors import ConfigError, FrameError
from seg_node.frame import Demand, Frame, StageClock
from seg_node.image.photo import read_photo
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import ModelCard

from .recipe import Labeller

#: The least share of pixels with the library's label.
LEAST_EQUAL = 0.999
_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
_VIDEOS = ('.mp4', '.avi', '.mkv', '.mov')


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
                 sorted(path for path in place.rglob('*') if path.suffix.lower() in _SUFFIXES))
        found += [image for file in files[:: max(1, len(files) // most)]
                  for image in (_frames(file, most) if file.suffix.lower() in _VIDEOS
                                else _photo(file))]
    if not found:
        raise ConfigError(f'--pictures {", ".join(map(str, places))} hold no picture.')
    return found[:most]


def _photo(path: Path) -> Iterator[np.ndarray]:
    try:
        image = read_photo(np.frombuffer(path.read_bytes(), np.uint8))
    except (FrameError, OSError) as error:
        raise ConfigError(f'--pictures {path} cannot be read: {error}') from error
    if image is None:
        raise ConfigError(f'--pictures {path} is no picture that OpenCV can read.')
    yield image


def _frames(path: Path, most: int) -> Iterator[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    step = max(1, int(video.get(cv2.CAP_PROP_FRAME_COUNT)) // most)
    index = 0
    while video.grab():
        if index % step == 0:
            yield video.retrieve()[1]
        index += 1


def agreement(card: ModelCard, label: Labeller, images: Sequence[np.ndarray]) -> Agreement:
    """
    Return how far the node's labels are the library's.

    :raises ConfigError: the node refuses a picture.
    """
    backend = load('onnxruntime', card, threads=0)
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
