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
from ..pipeline import Pipeline
from .mailbox import Mailbox
from .watchdog import Patience, Watched

TRIES = 5  # runs of the network that may fail in a row
_PREPARING_S = 60.0  # after this it is reported that a new size takes so long
_TAKES = 50  # batches over which the usual time is taken


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
        self._idle = Event()
        self._idle.set()

    def run(self, pipeline: Pipeline, watched: Watched, usual_s: float) -> None:
        """
        Segment until the mailbox is closed.

        :param usual_s: what a batch takes, as far as that is known before the first; else 0.
        :raises DeviceLostError: the device has failed for good, or ``TRIES`` times in a row.
        """
        limit = self._max_batch or pipeline.segmenter.preferred_batch
        takes_s = deque([usual_s], maxlen=_TAKES)
        self._idle.clear()
        try:
            while frames := self._take(limit):
                clock = StageClock()
                # The low median: a slow first frame must not make the second one's limit.
                patience = partial(self._patience, median_low(takes_s), clock)
                start = time.perf_counter()
                with watched.doing(_whose(frames), patience, partial(getattr, clock, 'current')):
                    self._step(pipeline, frames, clock)
                takes_s.append(time.perf_counter() - start - _preparing_s(clock))
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

    def _patience(self, usual_s: float, clock: StageClock) -> Patience:
        """Return how long a batch may be in hand; getting ready for a new size takes its time."""
        if clock.current == PREPARE:
            return Patience(_PREPARING_S, math.inf)
        return Patience.of(self._timeout_s(), usual_s).after(_preparing_s(clock))

    def _take(self, limit: int) -> list[Frame]:
        frames = self._mailbox.take(limit)
        with self._lock:
            self._in_hand = {} if self._stopped else {id(frame): frame for frame in frames}
        return frames

    def _step(self, pipeline: Pipeline, frames: list[Frame], clock: StageClock) -> None:
        results: Sequence[Products | FrameError]
        lost = ''
        try:
            wanted = [self._wanted(frame.camera) for frame in frames]
            results = pipeline.process(frames, wanted, clock)
        except Exception as error:  # whatever it is, its frames are counted and the next are tried
            lost = brief(error) if isinstance(error, DeviceLostError) else ''
            results = [FrameError(BACKEND, brief(error))] * len(frames)
        for frame, result in zip(frames, results, strict=True):
            self._hand_on(frame, result, clock)
        self._count_failures(results, lost)

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
