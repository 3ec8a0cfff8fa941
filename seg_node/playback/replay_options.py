"""What can be asked of the player, and what it answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
import math
from pathlib import Path

from ..errors import ConfigError
from .sources import ALL, LAST_NS, Source, Span


@dataclass(frozen=True)
class ReplayOptions:
    """
    How a source is played.

    :ivar rate: seconds of recorded time per second; inf = as fast as the answers come, which
        needs ``lockstep``.
    :ivar max_gap_s: a longer pause in the recording is cut to this.
    :ivar loops: how often; 0 = until stopped. Stamps of videos and folders go on rising, a bag
        starts again with its recorded stamps.
    :ivar clock: publish recorded time on ``/clock``.
    :ivar clock_hz: how often between the messages; with each of them it is told anyhow.
    :ivar span: which part of the source.
    :ivar topics: shell patterns of the topics to send; () = all whose type is installed.
    :ivar remap: other names for topics of the source.
    :ivar wait_s: how long to wait for a subscriber of an image; 0 = not at all.
    :ivar wait_for_all: wait for a subscriber of every image, not only of one.
    :ivar wait_for: patterns of topics to listen to; each must be published, and the publisher
        found, before the first frame.
    :ivar settle_s: from the first subscriber to the first frame: the others and the recorder
        need it to be found.
    :ivar record: folder for an mcap bag of what is listened to; None = no bag.
    :ivar overwrite: whether a bag that lies there is replaced.
    :ivar record_topics: patterns of the topics to record: those heard and those sent;
        () = the outputs of seg_node and the camera_info sent.
    :ivar record_input: record everything that is sent, too.
    :ivar listen: patterns of topics whose times of receipt are wanted, recorded or not.
    :ivar lockstep: topic that must answer with the stamp of a frame before the next is sent; of
        several cameras, that of each image topic of the source.
    :ivar lockstep_timeout_s: how long to wait for an answer.
    :ivar linger_s: after the last frame, stop listening when no answer came for so long.
    :ivar tolerant: a source that breaks off midway ends the playing and is told of in the result;
        else it is an error.
    :ivar start_stamp_ns: stamp of the first frame of a video or folder; None = the wall clock's
        time at which it is sent.
    """

    rate: float = 1.0
    max_gap_s: float = 5.0
    loops: int = 1
    clock: bool = True
    clock_hz: float = 100.0
    span: Span = ALL
    topics: Sequence[str] = ()
    remap: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 10.0
    wait_for_all: bool = False
    wait_for: Sequence[str] = ()
    settle_s: float = 0.5
    record: str | Path | None = None
    overwrite: bool = False
    record_topics: Sequence[str] = ()
    record_input: bool = False
    listen: Sequence[str] = ()
    lockstep: str | Mapping[str, str] | None = None
    lockstep_timeout_s: float = 10.0
    linger_s: float = 1.0
    tolerant: bool = False
    start_stamp_ns: int | None = None


@dataclass
class ReplayResult:
    """
    What happened. Lists of times hold the newest 100 000.

    :ivar frames_sent: images sent, over all topics.
    :ivar counts: images sent per topic.
    :ivar heard: messages that came per topic listened to.
    :ivar sent: per image topic (stamp ns, ``time.monotonic_ns()`` right before it was sent).
    :ivar received: per topic listened to (stamp ns, ``time.monotonic_ns()`` of its receipt).
    :ivar lost: per topic listened to, messages that were published but did not arrive.
    :ivar late_ms: how much later than due each image was sent.
    :ivar lockstep_timeouts: frames that got no answer in time.
    :ivar recorded: per topic, messages written to the bag.
    :ivar losses: what of the source could not be given, by kind.
    :ivar notices: what the user should know.
    :ivar broken: why the source broke off midway; '' = it did not.
    :ivar interrupted: whether it was stopped before the end.
    """

    frames_sent: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    sent: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    received: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    late_ms: list[float] = field(default_factory=list)
    lockstep_timeouts: int = 0
    recorded: dict[str, int] = field(default_factory=dict)
    wall_s: float = 0.0
    bag: Path | None = None
    losses: dict[str, int] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    broken: str = ''
    interrupted: bool = False


@dataclass(frozen=True)
class Calls:
    """What the caller of ``player.replay`` wants to be asked and told."""

    stop: Callable[[], bool]
    on_frame: Callable[[], object]
    on_message: Callable[[str, bytes], object]
    settled: Callable[[Mapping[str, int]], bool] | None
    known: Callable[[Mapping[str, int]], bool] | None


def check_options(options: ReplayOptions, source: Source) -> None:
    """:raises ConfigError: when an option is out of range or does not fit the source."""
    for name, allowed in (('rate', options.rate > 0),
                          ('max_gap_s', options.max_gap_s > 0), ('loops', options.loops >= 0),
                          ('clock_hz', options.clock_hz > 0),
                          ('wait_s', options.wait_s >= 0),
                          ('settle_s', options.settle_s >= 0), ('linger_s', options.linger_s >= 0),
                          ('lockstep_timeout_s', options.lockstep_timeout_s > 0)):
        value = getattr(options, name)
        if name == 'rate' and options.lockstep is not None and value == math.inf:
            continue
        if not allowed or not math.isfinite(value):
            zero = ('' if name in ('rate', 'max_gap_s', 'clock_hz', 'lockstep_timeout_s')
                    else ' or 0')
            raise ConfigError(f'{name} is {value}; give a positive number{zero}.')
    if options.span.offset_ns < 0 or (options.span.length_ns or 1) < 0:
        raise ConfigError('start offset and duration cannot be negative.')
    if options.start_stamp_ns is not None and not source.restamps:
        raise ConfigError(f'{source.path} is a bag and keeps its recorded stamps; leave out the '
                          'start stamp.')
    stamp_ns = options.start_stamp_ns or 0
    if not 0 <= stamp_ns < LAST_NS:
        raise ConfigError(f'start stamp is {stamp_ns / 1e9:g} s; ROS 2 tells times '
                          f'from 0 to {LAST_NS / 1e9:g} s, after 1970.')
    if options.record is not None and _same(options.record, source.path):
        raise ConfigError(f'{options.record} is the source itself; record to another folder.')


def _same(one: str | Path, other: Path) -> bool:
    return Path(one).resolve() in (other.resolve(), other.resolve().parent)
