"""Runs seg_node as a process of its own, as a user starts it."""

from collections.abc import Mapping
from pathlib import Path
import signal
import subprocess
import sys
from types import TracebackType

from ..errors import SegNodeError

_END_S = 10.0


class NodeProcess:
    """
    The node in its own process, ended as by Ctrl-C when the context is left.

    :param parameters: ROS parameters; lists, booleans and numbers as Python has them.
    :param log_path: gets all that the node prints.
    """

    def __init__(self, parameters: Mapping[str, object], log_path: Path) -> None:
        self.log_path = log_path
        command = [sys.executable, '-m', 'seg_node.ros.main', '--ros-args']
        for name, value in parameters.items():
            command += ['-p', f'{name}:={_as_yaml(value)}']
        with log_path.open('wb') as log:
            # A session of its own: Ctrl-C at the terminal is for the tool, which then ends it.
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT,
                                             stdin=subprocess.DEVNULL, start_new_session=True)

    def ended(self) -> bool:
        """Return whether it runs no more."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Raise SegNodeError, with what it printed, when it runs no more."""
        if self.ended():
            raise SegNodeError(f'the node ended with code {self._process.returncode}:\n'
                               f'{self.log_path.read_text(errors="replace").strip()}')

    def __enter__(self) -> 'NodeProcess':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if not self.ended():
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _as_yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f'[{", ".join(_as_yaml(item) for item in value)}]'
    # Quoted, or YAML would make a number of a model called 1e3.
    return f"'{value}'" if isinstance(value, str) else str(value)
