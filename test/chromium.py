"""A real headless Chromium, asked over a pipe; it can reach this machine only."""

import base64
import itertools
import json
import os
from pathlib import Path
import select
import shutil
import subprocess
import time

import cv2
import numpy as np

PROGRAM = next(filter(None, map(shutil.which, (
    'chromium', 'chromium-browser', 'google-chrome'))), None)


class Chromium:
    """One page; a context manager."""

    def __init__(self, folder: Path, size=(1400, 1000)):
        self._numbers = itertools.count(1)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def as_three_and_four():  # where Chromium looks for the pipe
            high = os.dup(to_browser), os.dup(from_browser)
            os.dup2(high[0], 3), os.dup2(high[1], 4)
        self._process = subprocess.Popen(
            [PROGRAM, '--headless=new', '--no-sandbox', f'--user-data-dir={folder}',
             '--remote-debugging-pipe', '--use-gl=angle', '--use-angle=swiftshader',
             '--enable-unsafe-swiftshader', '--disable-dev-shm-usage',
             '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1',
             f'--window-size={size[0]},{size[1]}', 'about:blank'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=as_three_and_four, close_fds=False)
        os.close(to_browser), os.close(from_browser)
        self._kept = b''

    def open(self, url):
        """Open a page."""
        target = self._call('Target.createTarget', url=url)['targetId']
        self._session = self._call('Target.attachToTarget', targetId=target,
                                   flatten=True)['sessionId']

    def picture(self):
        """Return what the page shows, (H, W, 3) uint8 BGR."""
        data = self._call('Page.captureScreenshot', session=self._session, format='png')['data']
        return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)

    def _call(self, method, session=None, timeout_s=60.0, **parameters):
        number = next(self._numbers)
        message = {'id': number, 'method': method, 'params': parameters,
                   **({'sessionId': session} if session else {})}
        os.write(self._write, json.dumps(message).encode() + b'\0')
        end = time.monotonic() + timeout_s
        while True:
            while b'\0' not in self._kept:
                ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
                assert ready, f'Chromium does not answer {method}'
                data = os.read(self._read, 1 << 20)
                assert data, 'Chromium has ended'
                self._kept += data
            one, _, self._kept = self._kept.partition(b'\0')
            answer = json.loads(one)
            if answer.get('id') == number:
                assert 'result' in answer, answer
                return answer['result']

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write), os.close(self._read)
