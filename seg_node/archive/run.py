"""Labels recordings by a crew of workers: what is to be done, in which order, and what became."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
import time
from typing import Any, Protocol

from ..errors import brief, ConfigError, SegNodeError
from .crew import Crew, Lost
from .output import Output, Summary
from .recordings import Recording
from .worker import Answer, Looked

TRIES = 3
_WAIT_S = 1.0
_GATHER_S = 120.0  # workers that come later than this are welcome, too


class Show(Protocol):
    """Shows how far a run is."""

    def __call__(self, frames: int, of: int | None, recordings: int) -> None:
        """Show frames done, of how many as far as it is known, and recordings done."""


@dataclass
class Outcome:
    """
    What a run did.

    :ivar broken: by address, why a recording is not or not wholly labelled.
    :ivar remarks: by address, what was not as it should be.
    :ivar frames: that have a row now, of all recordings asked for.
    :ivar refused: of these, what the node would publish nothing for, by reason.
    :ivar new: how many frames were labelled by this run.
    :ivar spent_s: how long that took, from when the workers were there.
    :ivar core_s: the CPU time of all cores that the workers spent on it.
    """

    broken: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)
    frames: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    recordings: int = 0
    new: int = 0
    spent_s: float = 0.0
    core_s: float = 0.0

    def add(self, summary: Summary) -> None:
        """Take note of a finished recording."""
        self.recordings += 1
        self.frames += sum(summary.frames.values())
        self.refused.update(summary.refused)
        if summary.broken:
            self.broken[summary.uri] = summary.broken
        if summary.remarks:
            self.remarks[summary.uri] = summary.remarks


def sift(output: Output, recordings: Sequence[Recording], outcome: Outcome,
         again: bool) -> list[Recording]:
    """
    Return what is still to be done; what is finished is noted.

    :param again: what could not be read wholly is labelled anew.
    """
    left = []
    for recording in recordings:
        summary = output.finished(recording)
        if summary is None:
            left.append(recording)
            continue
        try:
            fingerprint = recording.fingerprint()
        except Exception as error:  # each file system has its own kinds
            outcome.add(summary)
            outcome.remarks.setdefault(recording.uri, []).append(
                f'is labelled, but cannot be read any more: {brief(error)}')
            continue
        if summary.broken and (again or fingerprint != summary.fingerprint):
            output.forget(recording)
            left.append(recording)
        elif fingerprint != summary.fingerprint:
            outcome.add(summary)
            outcome.broken[recording.uri] = (
                'has changed since it was labelled: remove '
                f'{output.path / "recordings" / recording.name} to label it anew')
        else:
            outcome.add(summary)
    return left


@dataclass
class _Open:
    """A recording in hand: which of its pieces are missing."""

    recording: Recording
    pieces: int
    fingerprint: str
    missing: set[int]


class Run:
    """
    One run over some recordings.

    :param crew: who does it.
    :param show: is told of the progress.
    """

    def __init__(self, output: Output, crew: Crew, recordings: Sequence[Recording],
                 outcome: Outcome, show: Show) -> None:
        self._output, self._crew, self._outcome, self._show = output, crew, outcome, show
        self._queue: deque[tuple[Any, ...]] = deque(('look', one) for one in recordings)
        self._open: dict[str, _Open] = {}
        self._announced: dict[str, int | None] = {one.name: None for one in recordings}
        self._tries: Counter[tuple[Any, ...]] = Counter()
        self._busy = 0
        self._frames = 0  # of pieces that are done, by whatever run
        self._checked = 0

    def go(self) -> None:
        """
        Do all of it.

        :raises SegNodeError: nothing more can be done; what is done is kept.
        """
        self._gather()
        start_s = time.monotonic()
        while self._queue or self._busy:
            while self._queue and self._crew.is_idle:
                self._crew.give(self._queue.popleft())
                self._busy += 1
            for task, answer in self._crew.answers(_WAIT_S):
                self._busy -= 1
                self._take(task, answer)
            self._check_makers()
            self._outcome.spent_s = time.monotonic() - start_s
            self._tell()

    def _gather(self) -> None:
        """Wait until all workers are there; refuse those that would not make the same labels."""
        end = time.monotonic() + _GATHER_S
        while self._crew.is_opening and (time.monotonic() < end or not self._crew.is_idle):
            self._crew.answers(_WAIT_S)
        self._check_makers()

    def _check_makers(self) -> None:
        for made_by, host in self._crew.makers[self._checked:]:
            try:
                self._output.adopt(made_by)
            except ConfigError as error:
                raise ConfigError(f'worker on {host}: {error}') from error
            self._checked += 1

    def _take(self, task: tuple[Any, ...], answer: Answer | Lost) -> None:
        method, subject = task[0], task[1]
        recording = subject if isinstance(subject, Recording) else subject.recording
        if isinstance(answer, Lost):
            self._tries[task] += 1
            if self._tries[task] < TRIES:
                self._queue.appendleft(task)
            else:
                self._give_up(recording, f'its worker died {TRIES} times, the last time: '
                              f'{answer.reason}')
        elif answer.fatal:
            raise SegNodeError(f'{answer.fatal}. What is done is kept: free space, then run the '
                               'same command again.')
        elif answer.refused:
            self._give_up(recording, answer.refused)
        else:
            steps: dict[str, Callable[[Any, Any], None]] = {
                'look': self._looked, 'label': self._labelled, 'finish': self._finished}
            steps[method](subject, answer.value)

    def _give_up(self, recording: Recording, reason: str) -> None:
        self._outcome.broken[recording.uri] = reason
        self._open.pop(recording.name, None)
        self._announced.pop(recording.name, None)
        self._queue = deque(task for task in self._queue
                            if getattr(task[1], 'recording', task[1]) != recording)

    def _looked(self, recording: Recording, looked: Looked) -> None:
        counts = list(looked.announced.values())
        self._announced[recording.name] = sum(count or 0 for count in counts) or None
        missing = {piece.index for piece in looked.pieces if not self._output.has(piece)}
        self._open[recording.name] = _Open(recording, len(looked.pieces), looked.fingerprint,
                                           missing)
        # Behind all that is to be looked at, so that soon it is known how much there is.
        self._queue.extend(('label', piece) for piece in looked.pieces if piece.index in missing)
        if not missing:
            self._all_there(recording)

    def _labelled(self, piece: Any, value: tuple[Counter[str], float]) -> None:
        frames, core_s = value
        self._outcome.core_s += core_s
        self._frames += frames.total()
        self._outcome.new += frames.total()
        work = self._open.get(piece.recording.name)
        if work is None:  # another piece of it failed
            return
        work.missing.discard(piece.index)
        if not work.missing:
            self._all_there(piece.recording)

    def _all_there(self, recording: Recording) -> None:
        work = self._open[recording.name]
        self._queue.appendleft(('finish', recording, work.pieces, work.fingerprint))

    def _finished(self, recording: Recording, summary: Summary) -> None:
        self._open.pop(recording.name, None)
        self._outcome.add(summary)

    def _tell(self) -> None:
        known = [count for count in self._announced.values() if count is not None]
        whole = sum(known) if len(known) == len(self._announced) else None
        self._show(self._frames + self._crew.frames, whole, self._outcome.recordings)

