"""Rerun's viewer as a process of its own: on this machine only, reporting nothing to its maker."""

import importlib.util
import json
import os
from pathlib import Path
import signal
import socket
import subprocess
import tempfile
import time
from urllib.parse import quote

from ..child import end_with_parent
from ..errors import SegNodeError

LOOPBACK = '127.0.0.1'
_START_S, _END_S = 30.0, 5.0
_LAST_LINES = 10


def without_analytics(folder: Path) -> dict[str, str]:
    """
    Return the environment in which Rerun sends no usage data, whatever the user's settings are.

    :param folder: gets the settings, and what Rerun keeps.
    """
    settings = folder / 'rerun' / 'analytics.json'
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps({
        'analytics_enabled': False, 'analytics_id': 'none', 'metadata': {},
        'config_file_path': str(settings), 'data_dir_path': str(settings.with_suffix(''))}))
    return {'XDG_CONFIG_HOME': str(folder)}


class Viewer:
    """
    A viewer, native or for browsers, that waits for data; a context manager.

    Rerun's own ``serve_grpc`` and ``serve_web_viewer`` listen on every address. Its program does
    not, when it is told.

    :param web: serve browsers instead of opening a window.
    :param bind: the address to listen on.
    :param port: of the web page.
    :param data_port: of the data, for this process and for browsers.
    :param memory_mb: what it may use; the oldest data go first.
    :raises SegNodeError: when a port is taken, or it does not start.
    """

    def __init__(self, *, web: bool, bind: str = LOOPBACK, port: int = 9090,
                 data_port: int = 9876, memory_mb: int = 1000) -> None:
        self._bind, self._port, self._data_port, self._web = bind, port, data_port, web
        for number in (data_port, port)[:1 + web]:
            self._check_free(number)
        self._folder = tempfile.TemporaryDirectory(prefix='seg_node_view_')
        self._log = Path(self._folder.name) / 'log'
        command = [str(program()), '--bind', bind, '--port', str(data_port),
                   '--memory-limit', f'{memory_mb}MB', '--server-memory-limit', f'{memory_mb}MB']
        if web:
            command += ['--serve-web', '--web-viewer-port', str(port)]
        with self._log.open('wb') as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=end_with_parent(signal.SIGTERM),
                env={**os.environ, **without_analytics(Path(self._folder.name))})

    @property
    def data_url(self) -> str:
        """Where data are sent to."""
        return f'rerun+http://{self._near()}:{self._data_port}/proxy'

    @property
    def url(self) -> str:
        """What to open in a browser; '' = it has a window of its own."""
        if not self._web:
            return ''
        return f'http://{self._near()}:{self._port}/?url={quote(self.data_url, safe="")}'

    @property
    def pid(self) -> int:
        """The process' number."""
        return self._process.pid

    def check(self) -> None:
        """Raise SegNodeError, with what it printed, when it runs no more."""
        if self._process.poll() is not None:
            lines = self._log.read_text(errors='replace').strip().splitlines()
            raise SegNodeError(f'the viewer ended with code {self._process.returncode}:\n'
                               + '\n'.join(lines[-_LAST_LINES:]))

    def ended(self) -> bool:
        """Return whether its window was closed, or it ended otherwise."""
        return self._process.poll() is not None

    def __enter__(self) -> 'Viewer':
        try:
            end = time.monotonic() + _START_S
            for number in (self._data_port, self._port)[:1 + self._web]:
                while not self._answers(number):
                    self.check()
                    if time.monotonic() > end:
                        raise SegNodeError(f'the viewer does not listen on port {number} after '
                                           f'{_START_S:g} s')
                    time.sleep(0.05)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _near(self) -> str:
        """Return the address by which it is reached from here."""
        return LOOPBACK if self._bind in ('0.0.0.0', '::') else self._bind

    def _check_free(self, port: int) -> None:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((self._bind, port))
            except OSError as error:
                raise SegNodeError(f'{self._bind}:{port} cannot be listened on: {error.strerror}. '
                                   'Give other ports (--port, --data-port) or another --bind, or '
                                   'end the other viewer.') from error

    def _answers(self, port: int) -> bool:
        with socket.socket() as trial:
            trial.settimeout(0.5)
            return trial.connect_ex((self._near(), port)) == 0


def program() -> Path:
    """Return Rerun's program, which its Python package brings."""
    found = importlib.util.find_spec('rerun_cli')
    path = Path(found.origin).parent / 'rerun' if found and found.origin else None
    if path is None or not path.exists():
        raise SegNodeError('Rerun is not installed: `pip install rerun-sdk` (Python 3.11 or newer '
                           'and NumPy 2).')
    return path
