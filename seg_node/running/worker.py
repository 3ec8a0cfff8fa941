"""What the device's thread does from activate to deactivate: takes the newest frames, segments."""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
import math
from statistics import median_low
from threading import Event, Lock
import time

from ..errors import BACKEND, brief, DeviceLostError, FrameError
from ..frame import Frame, PREPARE, Products, StageClock
from ..mishaps import mishaps
from ..pipeline import Batch, Pipeline
from .mailbox import Mailbox
from .watchdog import Doing, Patience, Watched

TRIES = 5  # runs of the network that may fail in a row
_PREPARING_S = 60.0  # after this it is reported that a new size takes so long
_TAKES = 50  # batches over which the usual time is taken


class _InHand:
    """
    Frames that were taken together.

    :ivar took_s: what the steps took that were done with them.
    :ivar failure: why there is nothing to be had of them, '' = there may be; ``lost``: nor of any
        other.
    """

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames
        self.clock = StageClock()
        self.started: Batch | None = None
        self.took_s = 0.0
        self.failure, self.lost = '', False

    @property
    def runs_on(self) -> bool:
        """Whether the device works at them by itself, so that more may be brought to it."""
        return self.started is not None and self.started.due > 0

    @property
    def left_s(self) -> float:
        """How long the device is likely to be at them still."""
        return 0.0 if self.started is None else max(0.0, self.started.due - time.perf_counter())

    def fail(self, error: Exception) -> None:
        """Note what went wrong; not the error itself, whose traceback holds all of it."""
        self.failure, self.lost = brief(error), isinstance(error, DeviceLostError)


class _Step:
    """A part of what is done with a batch; no generator, as there are two for each frame."""

    __slots__ = ('_batch', '_doing', '_prepared_s', '_start')

    def __init__(self, batch: _InHand, doing: Doing) -> None:
        self._batch, self._doing = batch, doing
        self._start = self._prepared_s = 0.0

    def __enter__(self) -> None:
        self._start, self._prepared_s = time.perf_counter(), _preparing_s(self._batch.clock)
        self._doing.__enter__()

    def __exit__(self, *error: object) -> None:
        self._doing.__exit__()
        if error[0] is None:
            self._batch.took_s += (time.perf_counter() - self._start
                                   - (_preparing_s(self._batch.clock) - self._prepared_s))


class Worker:
    """
    Segments what the mailbox gets; ``run`` by the device's thread, stopped by any other.

    :param max_batch: the most frames to take at once; 0 = as suits the device.
    :param wanted: says which outputs of a camera somebody waits for.
    :param deliver: gets the products of each frame and the stage times of its batch.
    :param refuse: gets each refused frame and why.
    :param timeout_s: says how long a batch may take before the device is given up.
    """

    def __init__(self, mailbox: Mailbox[Frame], max_batch: int, *,
                 wanted: Callable[[str], Collection[str]],
                 deliver: Callable[[Products, StageClock], None],
                 refuse: Callable[[Frame, FrameError], None],
                 timeout_s: Callable[[], float] = lambda: 10.0) -> None:
        self._mailbox = mailbox
        self._max_batch = max_batch
        self._wanted = wanted
        self._deliver = deliver
        self._refuse = refuse
        self._timeout_s = timeout_s
        self._lock = Lock()  # held while a result is handed on
        self._in_hand: dict[int, Frame] = {}  # by id: what nobody has heard of yet
        self._stopped = False
        self._failures = 0
        self._takes_s: deque[float] = deque()
        self._idle = Event()
        self._idle.set()

    def run(self, pipeline: Pipeline, watched: Watched, usual_s: float) -> None:
        """
        Segment until the mailbox is closed.

        :param usual_s: what a batch takes, as far as that is known before the first; else 0.
        :raises DeviceLostError: the device has failed for good, or ``TRIES`` times in a row.
        """
        limit = self._max_batch or pipeline.segmenter.preferred_batch
        self._takes_s = deque([usual_s], maxlen=_TAKES)
        self._idle.clear()
        last: _InHand | None = None  # the device is at these frames
        try:
            while True:
                # Until they are likely done, the next frames are brought to the device.
                frames = self._take(limit, None if last is None else last.left_s)
                if not frames and last is None:
                    return
                following = self._start(pipeline, frames, watched) if frames else None
                if last is not None:
                    self._finish(last, watched)
                last = following
                if last is not None and not last.runs_on:
                    self._finish(last, watched)
                    last = None
        finally:
            self._idle.set()

    def stop(self, timeout_s: float) -> list[Frame]:
        """
        Take no more frames, and wait a while for those in hand.

        Nothing is delivered or refused after the return, whenever the device comes back.

        :returns: the frames of which nothing will be heard.
        """
        self._mailbox.close()
        self._idle.wait(timeout_s)
        # Who publishes holds the lock, and may not come back either.
        locked = self._lock.acquire(timeout=timeout_s)
        self._stopped = True
        left, self._in_hand = list(self._in_hand.values()), {}
        if locked:
            self._lock.release()
        return left + self._mailbox.drain()

    def _patience(self, clock: StageClock) -> Patience:
        """Return how long a batch may be in hand; getting ready for a new size takes its time."""
        if clock.current == PREPARE:
            return Patience(_PREPARING_S, math.inf)
        # The low median: a slow first frame must not make the second one's limit. Taken here, as
        # the watchdog asks seldom; of a copy, as the device's thread goes on.
        return Patience.of(self._timeout_s(), median_low(self._takes_s.copy())
                           ).after(_preparing_s(clock))

    def _take(self, limit: int, timeout_s: float | None) -> list[Frame]:
        frames = self._mailbox.take(limit, timeout_s)
        with self._lock:
            if not self._stopped:
                self._in_hand |= {id(frame): frame for frame in frames}
        return frames

    def _step(self, batch: '_InHand', watched: Watched) -> '_Step':
        """Return what does a part of what is to be done with a batch, watched."""
        return _Step(batch, watched.doing(
            _whose(batch.frames), partial(self._patience, batch.clock),
            partial(getattr, batch.clock, 'current')))

    def _start(self, pipeline: Pipeline, frames: list[Frame], watched: Watched) -> '_InHand':
        batch = _InHand(frames)
        with self._step(batch, watched):
            try:
                wanted = [self._wanted(frame.camera) for frame in frames]
                batch.started = pipeline.start(frames, wanted, batch.clock)
            except Exception as error:  # told when it is their turn
                batch.fail(error)
        return batch

    def _finish(self, batch: '_InHand', watched: Watched) -> None:
        results: Sequence[Products | FrameError] = []
        with self._step(batch, watched):
            if batch.started is not None:
                try:
                    results = batch.started.finish()
                except Exception as error:
                    batch.fail(error)
            if batch.failure:  # its frames are counted and the next are tried
                results = [FrameError(BACKEND, batch.failure)] * len(batch.frames)
            for frame, result in zip(batch.frames, results, strict=True):
                self._hand_on(frame, result, batch.clock)
        self._takes_s.append(batch.took_s)
        self._count_failures(results, batch.failure if batch.lost else '')

    def _hand_on(self, frame: Frame, result: Products | FrameError, clock: StageClock) -> None:
        with self._lock:
            if self._in_hand.pop(id(frame), None) is None:  # stopped meanwhile
                return
            if isinstance(result, FrameError):
                self._refuse(frame, result)
                return
            try:
                with mishaps('publishing the outputs of'):
                    self._deliver(result, clock)
            except FrameError as error:
                self._refuse(frame, error)

    def _count_failures(self, results: Sequence[Products | FrameError], lost: str) -> None:
        """Count the runs that failed; one that worked shows that the device does."""
        failed = [result for result in results
                  if isinstance(result, FrameError) and result.reason == BACKEND]
        if any(isinstance(result, Products) for result in results):
            self._failures = 0
        elif failed:
            self._failures += 1
        if lost:
            raise DeviceLostError(f'the device is lost: {lost}')
        if self._failures >= TRIES:
            raise DeviceLostError(f'the network failed {TRIES} times in a row: {failed[-1]}')


def _preparing_s(clock: StageClock) -> float:
    return clock.ms.get(PREPARE, 0.0) / 1e3


def _whose(frames: Sequence[Frame]) -> str:
    return f'a frame of {", ".join(frame.camera for frame in frames)} has been in hand'
