"""Runs seg_node as a process of its own, as a user starts it."""

from collections.abc import Mapping
import os
from pathlib import Path
import signal
import subprocess
import sys
from threading import Lock
import time
from types import TracebackType

from ..child import end_with_parent
from ..errors import SegNodeError

_END_S = 20.0
_LAST_LINES = 20
_LOOK_S = 0.1


class NodeProcess:
    """
    The node in its own process, ended as by Ctrl-C when the context is left.

    It never stays behind: when the thread that made it ends in whatever way, it is killed.

    :param parameters: ROS parameters; lists, booleans and numbers as Python has them.
    :param log_path: gets all that the node prints.
    """

    def __init__(self, parameters: Mapping[str, object], log_path: Path) -> None:
        self.log_path = log_path
        command = [sys.executable, '-m', 'seg_node.ros.main', '--ros-args']
        for name, value in parameters.items():
            command += ['-p', f'{name}:={_as_yaml(value)}']
        self._lock = Lock()
        self._looked_s, self._used_s, self._passed_s = time.monotonic(), 0.0, 0.0
        with log_path.open('wb') as log:
            # A session of its own: Ctrl-C at the terminal is for the tool, which then ends it.
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT,
                                             stdin=subprocess.DEVNULL, start_new_session=True,
                                             preexec_fn=end_with_parent(signal.SIGKILL))

    def clock(self) -> float:
        """
        Return the seconds that have passed for the node since its start.

        While it waits these are those of everybody; while it wants a core, only those that it got
        one for. So a busy machine is told from a node that hangs.
        """
        with self._lock:
            now_s = time.monotonic()
            spent_s = now_s - self._looked_s
            if spent_s > _LOOK_S:
                wants, used_s = self._usage()
                self._passed_s += min(spent_s, used_s - self._used_s) if wants else spent_s
                self._looked_s, self._used_s = now_s, used_s
            return self._passed_s

    def _usage(self) -> tuple[bool, float]:
        """Return whether a thread of the node wants a core, and the core time used so far."""
        folder = Path(f'/proc/{self._process.pid}')
        try:
            states = [_fields(task)[0] for task in folder.glob('task/*/stat')]
            used = _fields(folder / 'stat')
        except OSError:  # it has ended
            return False, self._used_s
        return 'R' in states, (int(used[11]) + int(used[12])) / os.sysconf('SC_CLK_TCK')

    @property
    def pid(self) -> int:
        """The process' number."""
        return self._process.pid

    def ended(self) -> bool:
        """Return whether it runs no more."""
        return self._process.poll() is not None

    def death(self) -> str:
        """Return how it ended by itself and what it printed last; '' while it runs."""
        if not self.ended():
            return ''
        lines = self.log_path.read_text(errors='replace').strip().splitlines()
        return (f'the node ended with code {self._process.returncode}:\n'
                + '\n'.join(lines[-_LAST_LINES:]))

    def check(self) -> None:
        """Raise SegNodeError, with what it printed, when it runs no more."""
        if death := self.death():
            raise SegNodeError(death)

    def __enter__(self) -> 'NodeProcess':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if not self.ended():
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                pass
            finally:  # a second Ctrl-C, too, ends the waiting and not the end
                self._process.kill()
                self._process.wait()


def _fields(stat: Path) -> list[str]:
    """Return the fields of a stat file of /proc from the state on, proc(5)'s third."""
    return stat.read_text().rpartition(')')[2].split()


def _as_yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f'[{", ".join(_as_yaml(item) for item in value)}]'
    # Quoted, or YAML would make a number of a model called 1e3.
    return f"'{value}'" if isinstance(value, str) else str(value)
