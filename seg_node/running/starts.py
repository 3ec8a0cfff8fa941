"""
What is remembered from one start of the node to the next: how the last one ended, and how often.

A small file, so that a node which is started again after a fault can say why, waits longer each
time, and stops trying one day. Only starts of one boot of the machine with the same settings are
counted together, only those that brought no mask, and none that was ended on purpose.
"""

from dataclasses import asdict, dataclass, replace
from hashlib import sha256
import json
import os
from pathlib import Path
import re
import time

_LONGEST_DELAY_S = 60.0
_BOOT = Path('/proc/sys/kernel/random/boot_id')
LOADING, WAITING, FIRST_FRAME, TRIED, RUNNING, FAULT = (
    'loading', 'waiting', 'first frame', 'tried', 'running', 'fault')
# What an end without a word in these phases was at: nothing else can have been its cause.
_AT_WORK = {LOADING: 'while it loaded the model', FIRST_FRAME: 'at the first frame'}


@dataclass(frozen=True)
class Record:
    """
    What the file holds.

    :ivar starts: in a row that brought no mask, the present one included.
    :ivar phase: the present start's.
    :ivar reason: of the last fault; '' = none.
    :ivar ended: when that was, in seconds of Unix time.
    """

    boot: str = ''
    settings: str = ''
    starts: int = 0
    phase: str = ''
    reason: str = ''
    ended: float = 0.0


class Starts:
    """
    The record of one node.

    A file that cannot be read or written is no reason to fail: then nothing is remembered.

    :param path: of the file; None = remember nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._record = self._last = self._read()

    @property
    def last_end(self) -> str:
        """Why the start before this one ended, with its time; '' = no fault is known."""
        if not self._last.reason:
            return ''
        when = time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self._last.ended))
        return f'{when}: {self._last.reason}'

    def failed(self, settings: str) -> int:
        """Return how many starts in a row with these settings have brought no mask."""
        last = self._last
        if (last.boot, last.settings) != (_boot(), _digest(settings)):
            return 0
        return last.starts if last.phase == FAULT or last.phase in _AT_WORK else 0

    def begin(self, settings: str) -> None:
        """Note that the model is about to be loaded."""
        failed = self.failed(settings)
        self._write(replace(self._record, boot=_boot(), settings=_digest(settings),
                            starts=failed + 1, phase=LOADING))

    def loaded(self) -> None:
        """Note that the model is there."""
        self._write(replace(self._record, phase=WAITING))

    def frame(self) -> None:
        """Note that a frame has come; costs nothing after the first."""
        if self._record.phase == WAITING:
            self._write(replace(self._record, phase=FIRST_FRAME))

    def refused(self) -> None:
        """Note that a frame was refused: the first one has done no harm."""
        if self._record.phase == FIRST_FRAME:
            self._write(replace(self._record, phase=TRIED))

    def mask(self) -> None:
        """Note that a mask was published: this start is a good one."""
        if self._record.phase in (WAITING, FIRST_FRAME, TRIED):
            self._write(replace(self._record, phase=RUNNING, starts=0))

    @property
    def brought_a_mask(self) -> bool:
        """Whether this start has."""
        return self._record.phase == RUNNING

    def fault(self, reason: str) -> None:
        """Note why the process is about to end."""
        self._write(replace(self._record, phase=FAULT, reason=reason, ended=time.time()))

    def end(self) -> None:
        """Forget all: somebody has ended the node on purpose."""
        self._record = Record()
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except OSError:
                pass

    def _read(self) -> Record:
        try:
            assert self._path is not None
            found = Record(**json.loads(self._path.read_text(encoding='utf-8')))
            kinds = [type(value) for value in asdict(Record()).values()]
            if [type(value) for value in asdict(found).values()] != kinds:
                raise TypeError
        except (AssertionError, OSError, ValueError, TypeError):
            return Record()
        if found.phase in _AT_WORK:
            return replace(found, ended=self._changed(), reason=(
                f'ended without a word {_AT_WORK[found.phase]}: killed, out of memory, or a crash '
                'in a library'))
        return found

    def _changed(self) -> float:
        assert self._path is not None
        return self._path.stat().st_mtime

    def _write(self, record: Record) -> None:
        self._record = record
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            written = self._path.with_suffix(f'.{os.getpid()}')
            written.write_text(json.dumps(asdict(record)), encoding='utf-8')
            written.replace(self._path)
        except OSError:
            self._path = None


def record_path(node: str) -> Path | None:
    """
    Return where a node's record lies, None where there is no such place.

    ``$XDG_STATE_HOME/seg_node``, else ``$SEG_NODE_CACHE/starts``, else
    ``~/.local/state/seg_node``.

    :param node: its fully qualified name; the ROS domain is added.
    """
    try:
        if state := os.environ.get('XDG_STATE_HOME'):
            folder = Path(state).expanduser() / 'seg_node'
        elif cache := os.environ.get('SEG_NODE_CACHE'):
            folder = Path(cache).expanduser() / 'starts'
        else:
            folder = Path.home() / '.local' / 'state' / 'seg_node'
    except RuntimeError:  # a user without a home
        return None
    name = re.sub(r'\W+', '.', node).strip('.')
    return folder / f'{name}.{os.environ.get("ROS_DOMAIN_ID") or 0}.json'


def delay_s(failed: int) -> float:
    """Return how long to wait before the next start, after so many that failed."""
    return min(2.0 ** (failed - 1), _LONGEST_DELAY_S) if failed else 0.0


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ''


def _digest(settings: str) -> str:
    return sha256(settings.encode('utf-8', 'replace')).hexdigest()[:16]
