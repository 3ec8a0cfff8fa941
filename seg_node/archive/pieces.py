"""The pieces that recordings are labelled in."""

from collections import Counter
from dataclasses import dataclass, field, replace

from ..errors import SegNodeError
from ..playback.camera_runs import camera_runs
from .order import Order
from .recordings import Recording

#: The names of what lies in the folder of a piece.
TABLE, BAG = 'frames.parquet', 'masks'
_LEAST_FRAMES = 10  # of a piece, on the mean


class OutputError(SegNodeError):
    """What was made cannot be written: nothing more can be done."""


@dataclass(frozen=True)
class Piece:
    """
    A part of a recording.

    :ivar fingerprint: of the recording when it was looked at.
    :ivar length_ns: None = to its end.
    """

    recording: Recording
    fingerprint: str
    index: int = 0
    offset_ns: int = 0
    length_ns: int | None = None


@dataclass
class Told:
    """
    What became of a piece.

    :ivar frames: by image topic.
    :ivar refused: frames, by reason.
    :ivar remarks: what was not as it should be.
    :ivar broken: why it is not whole; '' = it is.
    :ivar announced: frames that the whole recording claims to hold, by image topic, where it does.
    """

    frames: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    broken: str = ''
    announced: dict[str, int] = field(default_factory=dict)


def look(order: Order, recording: Recording,
         fingerprint: str) -> tuple[list[Piece], dict[str, int | None]]:
    """
    Return the pieces of a recording and how many frames each camera of it announces.

    What lies elsewhere is one piece, so that it is fetched once, and not looked into yet.

    :raises ConfigError: it cannot be opened, or holds no camera.
    """
    if not recording.is_local:
        return [Piece(recording, fingerprint)], {}
    with order.opened(recording) as source:
        runs = {run.source_topic for run in camera_runs(source)}
        counts = {topic.name: topic.count for topic in source.topics if topic.name in runs}
        step, length = round(order.piece_s * 1e9), source.length_ns
        # A clock that jumped from 0 to today makes a length of decades.
        most = 1 + sum(count or 0 for count in counts.values()) // _LEAST_FRAMES
        pieces = [Piece(recording, fingerprint, index, index * step, step)
                  for index in range(min(most, max(1, -(-(length or 0) // step))))]
        # Its end is where it ends, whatever it says.
        return [*pieces[:-1], replace(pieces[-1], length_ns=None)], counts
