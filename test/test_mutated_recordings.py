"""A share of what scripts/mutated_recordings.py tries: damaged recordings of every kind."""

from pathlib import Path
import subprocess
import sys

import pytest

pytest.importorskip('av', reason='needs PyAV')
pytest.importorskip('rosbags', reason='needs rosbags')

ROOT = Path(__file__).resolve().parents[1]


def test_damaged_recordings_end_in_time_and_memory_without_a_crash(tmp_path):
    """In a process of its own, which forks: one with threads must not."""
    done = subprocess.run(
        [sys.executable, ROOT / 'scripts' / 'mutated_recordings.py', '--count', '18', '--seed',
         '5', '--keep', tmp_path / 'kept'], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 19 and "'refused': " in lines[-1] and "'played': " in lines[-1]
