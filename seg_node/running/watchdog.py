"""
Notices that a thread does not come back, and ends the process when it never will.

All times are of the ``AwakeClock``: what a stopped process misses makes nobody late.
"""

from collections.abc import Callable
from dataclasses import dataclass
import os
import sys
from threading import get_ident, Lock, Thread
import time
import traceback
from typing import Any

_LOOK_S = 0.1  # between two looks
_LONGEST_LOOK_S = 0.5  # all that counts of one: the process was stopped, or had no processor
_SUSPECT_S, _SUSPECT_TIMES, _GIVE_UP_TIMES = 2.0, 10, 20


class AwakeClock:
    """
    Seconds that this process has run, as a thread that looks often sees them.

    A process that is stopped and continued (SIGSTOP, a debugger, a frozen container) and one that
    gets no processor have not lived through the time that has passed.

    :param clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self.seconds = 0.0

    def look(self) -> None:
        """Count the time since the last look; called by one thread."""
        now = self._clock()
        self.seconds += min(now - self._last, _LONGEST_LOOK_S)
        self._last = now


@dataclass(frozen=True)
class Patience:
    """
    How long one thing may be in hand.

    :ivar suspect_s: it is reported after this.
    :ivar give_up_s: it never comes back after this.
    """

    suspect_s: float
    give_up_s: float

    @classmethod
    def of(cls, timeout_s: float, usual_s: float = 0.0) -> 'Patience':
        """
        Return what a device is given.

        :param timeout_s: as the user wants it.
        :param usual_s: the median it takes: a model that is slow by nature is no fault.
        """
        give_up_s = max(timeout_s, _GIVE_UP_TIMES * usual_s)
        return cls(min(max(_SUSPECT_S, _SUSPECT_TIMES * usual_s), give_up_s), give_up_s)

    def after(self, seconds: float) -> 'Patience':
        """Return the same for what begins so much later."""
        return Patience(self.suspect_s + seconds, self.give_up_s + seconds)


class Watched:
    """
    A thread that says what it is about to do, so that others see when it does not come back.

    :param awake: the clock by which it is judged.
    :ivar what: what is in hand, '' = nothing.
    """

    def __init__(self, awake: AwakeClock) -> None:
        self._awake = awake
        self._lock = Lock()
        self._thread_id = 0
        self._detail: Callable[[], str] = str
        self.what = ''
        self._since = 0.0
        self._patience: Callable[[], Patience | None] = _for_ever

    def doing(self, what: str, patience: Callable[[], Patience | None],
              detail: Callable[[], str] = str) -> 'Doing':
        """
        Return what does a ``with`` block under the eyes of the watchdog; on the watched thread.

        :param patience: says how long it may be in hand, as things stand; None = any time.
        :param detail: tells the others where it is in the block.
        """
        return Doing(self, what, patience, detail)

    def begin(self, what: str, patience: Callable[[], Patience | None],
              detail: Callable[[], str]) -> None:
        """Take something in hand; see ``doing``."""
        with self._lock:
            self._thread_id = get_ident()
            self.what, self._patience, self._detail = what, patience, detail
            self._since = self._awake.seconds

    def end(self) -> None:
        """Have it done."""
        with self._lock:
            self.what, self._patience, self._detail = '', _for_ever, str

    @property
    def seconds(self) -> float:
        """How long it has been at what is in hand."""
        return self._awake.seconds - self._since if self.what else 0.0

    def late(self) -> str:
        """Return what has been in hand for too long, '' = nothing."""
        with self._lock:
            patience, seconds = self._patience(), self.seconds
            if patience is None or seconds <= patience.suspect_s:
                return ''
            return f'{self.what} for {seconds:.1f} s{self._where()}'

    def lost(self) -> str:
        """Return what will never come back, '' = nothing."""
        patience, late = self._patience(), self.late()
        return late if patience is not None and self.seconds > patience.give_up_s else ''

    def _where(self) -> str:
        """Return the stage and the line of code it is at; called with the lock held."""
        frame = sys._current_frames().get(self._thread_id)
        spot = traceback.extract_stack(frame, 1)[-1] if frame is not None else None
        line = f'{os.path.basename(spot.filename)}:{spot.lineno}' if spot is not None else ''
        found = [part for part in (self._detail(), line) if part]
        return f' ({", ".join(found)})' if found else ''


class Doing:
    """What a watched thread has in hand; no generator, as there are several for each frame."""

    __slots__ = ('_thing', '_watched')

    def __init__(self, watched: Watched, *thing: Any) -> None:
        self._watched, self._thing = watched, thing

    def __enter__(self) -> None:
        self._watched.begin(*self._thing)

    def __exit__(self, *_: object) -> None:
        self._watched.end()


def _for_ever() -> None:
    return None


class Watchdog:
    """
    A thread that looks at the others ten times a second.

    :param late: called when something is late, or no longer.
    :param lost: gets the reason, once, when something will never come back.
    :param leave: ends the process at once, with exit code and reason.
    """

    def __init__(self, awake: AwakeClock, late: Callable[[], None], lost: Callable[[str], None],
                 leave: Callable[[int, str], None]) -> None:
        self._awake = awake
        self._late = late
        self._lost = lost
        self._leave = leave
        self._watched: dict[str, Watched] = {}
        self._were_late: list[str] = []
        self._told = False
        self._deadline: tuple[float, int, str] | None = None
        self._thread = Thread(target=self._run, name='watchdog', daemon=True)

    def watch(self, name: str) -> Watched:
        """Return what one thread is to tell of itself; its name stands in the reasons."""
        watched = Watched(self._awake)
        self._watched = {**self._watched, name: watched}
        return watched

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def end_within(self, seconds: float, code: int, reason: str) -> None:
        """Leave with this code and reason unless the process has ended by then."""
        if self._deadline is None:
            self._deadline = self._awake.seconds + seconds, code, reason

    def complaints(self) -> list[str]:
        """Return what is late, and where it is."""
        return [f'{name} does not come back: {late}' for name, watched in self._watched.items()
                if (late := watched.late())]

    def look(self) -> None:
        """Look once."""
        self._awake.look()
        if self._deadline is not None and self._awake.seconds > self._deadline[0]:
            self._leave(self._deadline[1], '; '.join([self._deadline[2], *self.complaints()]))
        are_late = [name for name, watched in self._watched.items() if watched.late()]
        if are_late != self._were_late:
            self._were_late = are_late
            self._late()
        lost = [f'{name} does not come back: {reason}' for name, watched in self._watched.items()
                if (reason := watched.lost())]
        if lost and not self._told:
            self._told = True
            self._lost('; '.join(lost))

    def _run(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            self.look()
