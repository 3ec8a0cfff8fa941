"""One camera's stream: what happened to its images, counted, and over the last seconds."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
import time

from ..errors import FrameError
from ..geometry import Size
from .facts import InfoFacts, Publishers, StreamFacts
from .judge import Judge, Verdict
from .losses import Losses
from .report import Level, Limits
from .rules import CAMERA, CAUSES, SILENT
from .stamps import FAULTS, Stamp, Stamps
from .window import FIGURES_S, LEAST, median, percentiles, RECENT_S, Usual, View, Window

_FIRST_MASK_S = 1.0


@dataclass(frozen=True)
class _Arrival:
    """
    An image that came.

    :ivar lost: how many were lost between the one before and it; ``lost_ever``: before it.
    """

    stamp: Stamp
    age_ms: float | None
    lost: int
    lost_ever: int


@dataclass(frozen=True)
class _Mask:
    """An image that was segmented and published."""

    latency_ms: float | None
    processing_ms: float
    stages_ms: dict[str, float]


@dataclass(frozen=True)
class _Snapshot:
    """The windows at one moment."""

    now: float
    arrivals: View[_Arrival]
    decided: View[str]
    masks: View[_Mask]
    dropped: View[None]


class CameraHealth:
    """
    Counts what happens to one camera's images; filled by two threads, asked by one of them.

    The counts go on as long as the camera lives; what is judged is forgotten by ``restart``.

    :param topic: where its images come from, for the messages.
    :param name: the camera's, for the messages.
    :param clock: the time in seconds; it must never jump.
    :ivar arriving: whether images came when it was last judged.
    """

    def __init__(self, topic: str, name: str = '',
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.topic = topic
        self.name = name
        self.received = self.segmented = self.dropped = self.lost = 0
        self.refused: Counter[str] = Counter()
        self.stamp_faults: Counter[str] = Counter()
        self.arriving = False
        self._clock = clock
        self._lock = Lock()
        self._arrivals: Window[_Arrival] = Window(clock)
        self._decided: Window[str] = Window(clock)
        self._masks: Window[_Mask] = Window(clock)
        self._dropped: Window[None] = Window(clock)
        self._judge = Judge(CAMERA)
        self.restart()

    def restart(self) -> None:
        """Forget all but the counts: the node has been activated again."""
        with self._lock:
            for window in (self._arrivals, self._decided, self._masks, self._dropped):
                window.clear()
            self._started = self._clock()
            self._first_image: float | None = None
            self._losses = Losses()
            self._stamps = Stamps()
            self._refusals: dict[str, str] = {}
            self._last_refusal = ''
            self._image_size: Size | None = None
            self._state, self._state_reason = '', ''
            self._judgement: Callable[[], dict[str, str]] = dict
            self._judge.forget()
            self._interval_s: Usual[_Arrival] = Usual(lambda view: view.interval_s(FIGURES_S))
            self._mask_s: Usual[_Mask] = Usual(lambda view: view.interval_s(FIGURES_S))
            self._processing_ms: Usual[_Mask] = Usual(
                lambda view: median([mask.processing_ms for mask in view.last(FIGURES_S)]))
            self.arriving = False

    # What happens

    def on_received(self, stamp_ns: int, age_ms: float | None, publisher: bytes = b'',
                    number: int | None = None) -> None:
        """
        Count an image.

        :param age_ms: its age on arrival, None when the node's clock has no time.
        :param publisher: which of the topic's publishers sent it.
        :param number: that publisher's number for it, None where the middleware gives none.
        """
        with self._lock:
            now = self._clock()
            stamp = self._stamps.check(stamp_ns, now, age_ms)
            if stamp.fault:
                self.stamp_faults[stamp.fault] += 1
            self._count_arrival(now, stamp, age_ms if stamp_ns else None,
                                self._losses.on_message(publisher, number))

    def on_malformed(self, error: FrameError, publisher: bytes = b'',
                     number: int | None = None) -> None:
        """Count an image that has not even a stamp."""
        with self._lock:
            self._count_arrival(self._clock(), Stamp(), None,
                                self._losses.on_message(publisher, number))
        self.on_refused(error)

    def on_lost(self, count: int) -> None:
        """Take the middleware's word that images were lost on the way."""
        with self._lock:
            self._losses.on_reported(count)

    def on_dropped(self) -> None:
        """Count an image that a newer one replaced."""
        with self._lock:
            self.dropped += 1
            self._dropped.add(None)

    def on_refused(self, error: FrameError) -> None:
        """Count an image that could not be used."""
        with self._lock:
            self.refused[error.reason] += 1
            self._decided.add(error.reason)
            self._refusals[error.reason] = self._last_refusal = str(error)

    def on_segmented(self, size: Size, latency_ms: float | None, processing_ms: float,
                     stages_ms: dict[str, float]) -> None:
        """
        Count a published result.

        :param size: of the image.
        :param latency_ms: camera stamp to publish, None when there is no stamp or clock.
        :param processing_ms: receipt to publish.
        :param stages_ms: time of each stage for the frame's batch.
        """
        with self._lock:
            self.segmented += 1
            self._image_size = size
            self._decided.add('')
            self._masks.add(_Mask(latency_ms, processing_ms, stages_ms))

    def on_judged(self, state: str, reason: str, values: Callable[[], dict[str, str]]) -> None:
        """
        Take in what is thought of the camera's pictures and masks.

        :param state: ok, doubtful or blind.
        :param reason: why it is not ok.
        :param values: gives the figures, which few ask for.
        """
        with self._lock:
            self._state, self._state_reason, self._judgement = state, reason, values

    def _count_arrival(self, now: float, stamp: Stamp, age_ms: float | None, lost: int) -> None:
        self.received += 1
        self.lost += lost
        self._arrivals.add(_Arrival(stamp, age_ms, lost, self.lost))
        if self._first_image is None:
            self._first_image = now

    # What to say about it

    def judge(self, limits: Limits, publishers: Callable[[], Publishers] | None = None,
              info: InfoFacts | None = None) -> Verdict:
        """
        Return what holds of the stream now; cheap enough for many times a second.

        :param publishers: asked about a silent camera only, and never under the lock.
        :param info: what is known of the camera's calibration.
        """
        facts = self._facts(limits, info or InfoFacts())
        self.arriving = facts.arriving
        verdict = self._judge(facts, self._clock())
        if publishers is not None and verdict.names and verdict.names[0] in SILENT:
            both = facts, publishers()
            cause = next(rule for rule in CAUSES if rule.when(both))
            return verdict.because(cause.name, cause.text(both))
        return verdict if verdict.names else Verdict(Level.OK, (), (_fine(facts),))

    def _snapshot(self) -> _Snapshot:
        return _Snapshot(self._clock(), self._arrivals.copy(), self._decided.copy(),
                         self._masks.copy(), self._dropped.copy())

    def _facts(self, limits: Limits, info: InfoFacts) -> StreamFacts:
        with self._lock:
            shot = self._snapshot()
            started, first_image = self._started, self._first_image
            reported_lost, refusals = self._losses.reported, dict(self._refusals)
            image_size = self._image_size
            state, state_reason = self._state, self._state_reason
        silent_s = shot.arrivals.age_s
        gone = silent_s is None or silent_s > limits.image_timeout_s
        recent = [] if gone else shot.arrivals.last(RECENT_S)
        decided = [] if gone else shot.decided.last(RECENT_S)
        sent = shot.arrivals.ends(FIGURES_S)
        lost, count = (0, 0) if sent is None else (_lost_between(*sent[:2]), sent[2])
        lost += reported_lost
        refused = Counter(reason for reason in decided if reason)
        reason = max(refused, key=lambda reason: refused[reason], default='')
        interval_s = self._interval_s(shot.arrivals)
        mask_age_s, mask_due_s = self._mask_times(shot, first_image, interval_s, limits)
        return StreamFacts(
            topic=self.topic, name=self.name, limits=limits, arrived=silent_s is not None,
            silent_s=shot.now - started if silent_s is None else silent_s,
            interval_s=interval_s or 0.0,
            images=len(recent), age_s=(median([arrival.age_ms for arrival in recent
                                               if arrival.age_ms is not None]) or 0.0) / 1e3,
            stamps=Counter(arrival.stamp.fault for arrival in recent if arrival.stamp.fault),
            jump_s=max((arrival.stamp.jump_s for arrival in recent), default=0.0),
            lost=0 if gone else _lost(recent) + reported_lost,
            lost_share=lost / (lost + count) if lost else 0.0, reported_lost=reported_lost,
            decided=len(decided), refused=refused.total(), reason=reason,
            refusal=refusals.get(reason, ''),
            dropped_share=(min(1.0, shot.dropped.since(shot.arrivals.start(RECENT_S))
                               / len(recent)) if recent else 0.0),
            mask_age_s=mask_age_s, mask_due_s=mask_due_s,
            input_rate_hz=shot.arrivals.rate_hz(RECENT_S),
            output_rate_hz=shot.masks.rate_hz(RECENT_S), image_size=image_size,
            info=info, active_s=shot.now - started, state=state, state_reason=state_reason)

    def _mask_times(self, shot: _Snapshot, first_image: float | None, image_s: float | None,
                    limits: Limits) -> tuple[float | None, float]:
        """
        Return the age of the last mask, and the age at which the next one is overdue.

        :param image_s: the usual time between two images, None before the second.
        """
        age_s = shot.masks.age_s
        if age_s is None and first_image is not None:
            age_s = shot.now - first_image
        if image_s is None:  # nothing to judge by before the second image
            return age_s, limits.image_timeout_s
        mask_s = self._mask_s(shot.masks)
        processing_s = (self._processing_ms(shot.masks) or 0) / 1e3
        shortest_s = _FIRST_MASK_S if mask_s is None else RECENT_S
        return age_s, max(shortest_s, LEAST * max(image_s, mask_s or 0.0, processing_s))

    def values(self) -> dict[str, str]:
        """Return the figures: counts since the start, rates and times of the last seconds."""
        with self._lock:
            shot = self._snapshot()
            values = {'topic': self.topic, 'received': str(self.received),
                      'segmented': str(self.segmented), 'dropped': str(self.dropped),
                      'refused': str(self.refused.total()),
                      'lost': str(self.lost + self._losses.reported)}
            values.update({f'refused_{reason}': str(count)
                           for reason, count in sorted(self.refused.items())})
            values.update({f'stamps_{fault}': str(self.stamp_faults[fault]) for fault in FAULTS})
            values['last_refusal'] = self._last_refusal
            values.update(self._judgement())
        for name, rate_hz in (('input_rate_hz', shot.arrivals.rate_hz(FIGURES_S)),
                              ('output_rate_hz', shot.masks.rate_hz(FIGURES_S))):
            values[name] = '' if rate_hz is None else f'{rate_hz:.1f}'
        masks = shot.masks.last(FIGURES_S)
        mask_age_s = shot.masks.age_s
        values['mask_age_ms'] = '' if mask_age_s is None else f'{mask_age_s * 1e3:.0f}'
        for name, series in (
                ('input_age_ms', [arrival.age_ms for arrival in shot.arrivals.last(FIGURES_S)]),
                ('latency_ms', [mask.latency_ms for mask in masks]),
                ('processing_ms', [mask.processing_ms for mask in masks])):
            values.update(_percentiles(name, series))
        for stage in sorted({stage for mask in masks for stage in mask.stages_ms}):
            [middle] = percentiles([mask.stages_ms.get(stage, 0.0) for mask in masks], (50,))
            values[f'stage_{stage}_ms'] = f'{middle:.2f}'
        return values


def _lost(arrivals: Sequence[_Arrival]) -> int:
    """Return how many images were lost between these and before the first of them."""
    return _lost_between(arrivals[0], arrivals[-1]) if arrivals else 0


def _lost_between(first: _Arrival, last: _Arrival) -> int:
    return last.lost_ever - first.lost_ever + first.lost


def _fine(facts: StreamFacts) -> str:
    if not facts.arrived:
        return f'waiting for the first image on {facts.topic}'
    given_hz, sent_hz = facts.output_rate_hz, facts.input_rate_hz
    if facts.dropped_share and given_hz and sent_hz and given_hz < sent_hz:
        return f'segmenting {given_hz:.1f} Hz of {sent_hz:.1f} Hz, the newest images'
    return 'segmenting'


def _percentiles(name: str, series: Sequence[float | None]) -> dict[str, str]:
    known = [value for value in series if value is not None]
    if not known:
        return {}
    percents = (50, 95, 99)
    return {f'{name}_p{percent}': f'{value:.1f}' for percent, value in
            zip(percents, percentiles(known, percents), strict=True)}
