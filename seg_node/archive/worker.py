"""What one worker does, a process of its own on whatever machine; it knows nothing of Ray."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
import shutil
import socket
import time
from typing import Any

import cv2

from ..errors import brief, DeviceLostError, SegNodeError
from ..ros.transport import keep_buffers
from .labeller import Labeller
from .order import Order
from .output import Output, Summary
from .pieces import look, OutputError, Piece
from .recordings import Recording


@dataclass(frozen=True)
class Looked:
    """What was found of a recording: its pieces, how many frames each topic announces."""

    pieces: list[Piece] = field(default_factory=list)
    announced: dict[str, int | None] = field(default_factory=dict)
    fingerprint: str = ''


@dataclass(frozen=True)
class Answer:
    """
    What a worker says of a task.

    :ivar refused: why a recording can never be done; '' = it was.
    :ivar fatal: why nothing more can be done by anybody.
    :ivar lost: why this worker is of no more use.
    """

    value: Any = None
    refused: str = ''
    fatal: str = ''
    lost: str = ''


class Worker:
    """Labels; ``progress`` may be asked from another thread than the one that does all else."""

    def __init__(self, order: Order, out: Path) -> None:
        self._order, self._output = order, Output(out)
        self._labeller: Labeller | None = None
        self._frames = 0

    def open(self) -> Answer:
        """Load the model; answer by what labels are made here, and where that is."""
        keep_buffers()
        cv2.setNumThreads(max(1, self._order.wish.threads))
        try:
            self._labeller = Labeller(self._order)
        except SegNodeError as error:
            return Answer(lost=f'{socket.gethostname()}: {error}')
        return Answer((self._labeller.made_by, socket.gethostname()))

    def progress(self) -> int:
        """Return how many frames of the piece in hand are done."""
        return self._frames

    def look(self, recording: Recording) -> Answer:
        """Answer by what is to be done with a recording, a ``Looked``."""
        def work() -> Looked:
            fingerprint = recording.fingerprint()
            pieces, announced = look(self._order, recording, fingerprint)
            return Looked(pieces, announced, fingerprint)
        return _answered(work)

    def label(self, piece: Piece) -> Answer:
        """Label a piece and publish it; answer by its frames by topic, and the core seconds."""
        labeller = self._labeller
        assert labeller is not None
        self._frames = 0

        def work() -> tuple[Counter[str], float]:
            start_s = time.process_time()
            folder = self._output.begin(piece.recording)
            try:
                told = labeller.label(piece, folder, self._note)
                self._output.publish_piece(folder, piece, told)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            return told.frames, time.process_time() - start_s
        return _answered(work)

    def finish(self, recording: Recording, pieces: int, fingerprint: str) -> Answer:
        """Put the pieces of a recording together; answer by its ``Summary``."""
        def work() -> Summary:
            return self._output.finish(recording, pieces, fingerprint)
        return _answered(work)

    def _note(self, frames: int) -> None:
        self._frames = frames


def _answered(work: Callable[[], Any]) -> Answer:
    try:
        return Answer(work())
    except OutputError as error:
        return Answer(fatal=str(error))
    except DeviceLostError as error:
        return Answer(lost=str(error))
    except Exception as error:  # whatever it is, it must not stop the others
        return Answer(refused=brief(error))
