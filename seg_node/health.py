"""What is known about each camera's stream, and what to say about it in the diagnostics."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from threading import Lock
import time

import numpy as np

from .errors import FrameError

_WINDOW = 200  # frames over which times are reported


class Level(IntEnum):
    """Severity, with the numbers of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Report:
    """One status: severity, reason with the mend, and the figures behind it."""

    level: Level
    message: str
    values: dict[str, str]


@dataclass(frozen=True)
class Limits:
    """When to complain."""

    image_timeout_s: float
    max_age_s: float
    min_rate_hz: float


class CameraHealth:
    """
    Counts what happens to one camera's frames; filled by two threads.

    :param topic: where its images come from, for the messages.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._lock = Lock()
        self.received = self.segmented = self.dropped = 0
        self.refused: Counter[str] = Counter()
        self.restart()

    def restart(self) -> None:
        """Forget the times, keep the counts: the node has been activated again."""
        with self._lock:
            self._started = time.monotonic()
            self._arrivals: deque[float] = deque(maxlen=_WINDOW)
            self._results: deque[float] = deque(maxlen=_WINDOW)
            self._ages_ms: deque[float] = deque(maxlen=_WINDOW)
            self._latencies_ms: deque[float] = deque(maxlen=_WINDOW)
            self._processing_ms: deque[float] = deque(maxlen=_WINDOW)
            self._stages: deque[dict[str, float]] = deque(maxlen=_WINDOW)
            self._refused_in_a_row = 0
            self._last_refusal = ''
            self._last_stamp_ns = 0
            self._time_jumps = 0
            self.camera_info_problem = ''

    def on_received(self, stamp_ns: int, age_ms: float | None) -> None:
        """Count an image; ``age_ms`` is its age on arrival, None when the clock has no time."""
        with self._lock:
            self.received += 1
            self._arrivals.append(time.monotonic())
            if stamp_ns < self._last_stamp_ns:
                self._time_jumps += 1
            self._last_stamp_ns = stamp_ns
            if age_ms is not None:
                self._ages_ms.append(age_ms)

    def on_dropped(self, count: int = 1) -> None:
        """Count images that a newer one replaced."""
        with self._lock:
            self.dropped += count

    def on_refused(self, error: FrameError, arrived: bool = True) -> None:
        """Count an image that could not be used; ``arrived`` False if not yet counted."""
        with self._lock:
            if not arrived:
                self.received += 1
                self._arrivals.append(time.monotonic())
            self.refused[error.reason] += 1
            self._refused_in_a_row += 1
            self._last_refusal = str(error)

    def on_segmented(self, latency_ms: float | None, processing_ms: float,
                     stages_ms: dict[str, float]) -> None:
        """
        Count a published result.

        :param latency_ms: camera stamp to publish, None when the clock has no time.
        :param processing_ms: receipt to publish.
        :param stages_ms: time of each stage for the frame's batch.
        """
        with self._lock:
            self.segmented += 1
            self._refused_in_a_row = 0
            self._results.append(time.monotonic())
            self._processing_ms.append(processing_ms)
            self._stages.append(stages_ms)
            if latency_ms is not None:
                self._latencies_ms.append(latency_ms)

    def report(self, limits: Limits, topic_hint: Callable[[], str]) -> Report:
        """
        Judge the stream.

        :param topic_hint: tells what is known about the topic's publishers; asked only about a
            silent camera.
        """
        with self._lock:
            now = time.monotonic()
            level, message = self._judge(now, limits, topic_hint)
            return Report(level, message, self._values(now))

    def _judge(self, now: float, limits: Limits,
               topic_hint: Callable[[], str]) -> tuple[Level, str]:
        silent_s = now - (self._arrivals[-1] if self._arrivals else self._started)
        if silent_s > limits.image_timeout_s:
            level = Level.STALE if self._arrivals else Level.ERROR
            return level, f'no image on {self.topic} for {silent_s:.1f} s; {topic_hint()}'
        if not self._arrivals:
            return Level.OK, f'waiting for the first image on {self.topic}'
        if self._refused_in_a_row >= 10:
            return Level.ERROR, (f'the last {self._refused_in_a_row} images were refused: '
                                 f'{self._last_refusal}')
        warnings = list(self._warnings(now, limits))
        return (Level.WARN, '; '.join(warnings)) if warnings else (Level.OK, 'segmenting')

    def _warnings(self, now: float, limits: Limits) -> Iterator[str]:
        if self._refused_in_a_row:
            yield f'image refused: {self._last_refusal}'
        age_s = np.median(self._ages_ms) / 1e3 if self._ages_ms else 0.0
        if age_s > limits.max_age_s:
            yield (f'image stamps are {age_s:.1f} s old: '
                   + ('replaying without use_sim_time?' if age_s > 60 else
                      'a slow driver or network, or clocks that differ?'))
        if age_s < -limits.max_age_s:
            yield (f'image stamps are {-age_s:.1f} s in the future: clocks that differ, or '
                   'use_sim_time with nobody publishing /clock?')
        rate_hz = _rate_hz(self._results, now)
        if rate_hz is not None and rate_hz < limits.min_rate_hz:
            yield (f'segmented at {rate_hz:.1f} Hz, below min_rate_hz {limits.min_rate_hz:g}: '
                   'take a smaller model, a faster device or fewer cameras')
        if self.camera_info_problem:
            yield self.camera_info_problem

    def _values(self, now: float) -> dict[str, str]:
        values = {'topic': self.topic, 'received': str(self.received),
                  'segmented': str(self.segmented), 'dropped': str(self.dropped),
                  'refused': str(self.refused.total())}
        values.update({f'refused_{reason}': str(count)
                       for reason, count in sorted(self.refused.items())})
        for name, times in (('input_rate_hz', self._arrivals), ('output_rate_hz', self._results)):
            rate_hz = _rate_hz(times, now)
            values[name] = '' if rate_hz is None else f'{rate_hz:.1f}'
        for name, series in (('input_age_ms', self._ages_ms),
                             ('latency_ms', self._latencies_ms),
                             ('processing_ms', self._processing_ms)):
            values.update(_percentiles(name, series))
        stages = sorted({name for row in self._stages for name in row})
        for name in stages:
            median = np.median([row.get(name, 0.0) for row in self._stages])
            values[f'stage_{name}_ms'] = f'{median:.2f}'
        values['time_jumps'] = str(self._time_jumps)
        values['last_refusal'] = self._last_refusal
        return values


def _rate_hz(times: deque[float], now: float) -> float | None:
    """Return the rate over the last five seconds, None before the second frame."""
    recent = [moment for moment in times if now - moment <= 5.0]
    if len(times) < 2:
        return None
    if len(recent) < 2:
        return 0.0
    return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-6)


def _percentiles(name: str, series: deque[float]) -> dict[str, str]:
    if not series:
        return {}
    return {f'{name}_p{percent}': f'{np.percentile(series, percent):.1f}'
            for percent in (50, 95, 99)}
