"""Pairs the frames of a source with what the node made of them, by their stamps."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import FrameError
from ..image import wire
from ..image.decode import decode, MAX_PIXELS
from .bags import Ros2Bag
from .sources import ALL, IMAGE, Source, Span


@dataclass
class MatchedFrame:
    """
    A frame that was sent; its outputs are None where it was dropped or refused.

    :ivar image: (height, width, 3) uint8 BGR, or None when it cannot be decoded.
    :ivar outputs: (H, W) uint8 by topic.
    """

    stamp_ns: int
    image: np.ndarray | None
    outputs: dict[str, np.ndarray] = field(default_factory=dict)


def matched(source: Source, topic: str, epoch_ns: int | None, bag: Path | None,
            outputs: Sequence[str], span: Span = ALL,
            sent: Collection[int] | None = None) -> Iterator[MatchedFrame]:
    """
    Yield all frames of an image topic with their outputs, in the order they were sent.

    One camera's outputs come in the order of its frames, so each is read just once.

    :param epoch_ns: stamp of the first frame of a video or folder, as it was played.
    :param bag: the recorded outputs; None = there are none.
    :param outputs: their topics, mono8 images.
    :param span: which part of the source was played.
    :param sent: the stamps that were sent; outputs with others are left out. None = unknown.
    """
    kind = next(found.type for found in source.topics if found.name == topic)
    parse = wire.parse_image if kind == IMAGE else wire.parse_compressed_image
    with _Outputs(bag, outputs, sent) as recorded:
        for record in source.records([topic], span, epoch_ns):
            try:
                message = parse(record.data)
                stamp_ns, image = message.header.stamp_ns, decode(message, MAX_PIXELS)
            except FrameError:
                yield MatchedFrame(0, None)
                continue
            yield MatchedFrame(stamp_ns, image, recorded.at(stamp_ns))


class _Outputs:
    """Reads output topics of a bag, each by its own position."""

    def __init__(self, bag: Path | None, topics: Sequence[str],
                 sent: Collection[int] | None) -> None:
        self._sent = sent
        self._bags = {topic: Ros2Bag(bag) for topic in topics} if bag else {}
        self._records = {topic: source.records([topic]) for topic, source in self._bags.items()}
        self._next = {topic: self._advance(topic) for topic in self._records}

    def __enter__(self) -> '_Outputs':
        return self

    def __exit__(self, *_: object) -> None:
        for bag in self._bags.values():
            bag.close()

    def at(self, stamp_ns: int) -> dict[str, np.ndarray]:
        found = {}
        for topic, message in self._next.items():
            if message is not None and message.header.stamp_ns == stamp_ns:
                found[topic] = message.data.reshape(message.height, message.width)
                self._next[topic] = self._advance(topic)
        return found

    def _advance(self, topic: str) -> wire.ImageMessage | None:
        for record in self._records[topic]:
            message = wire.parse_image(record.data)
            if self._sent is None or message.header.stamp_ns in self._sent:
                return message
        return None
