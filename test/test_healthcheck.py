"""The health check of the container: what it makes of what a real node says."""

import os
from pathlib import Path
import re
import subprocess
import sys
import time
from types import SimpleNamespace

from harness import MODELS, NodeProcess
import pytest

from seg_node.tools.healthcheck import judged


def status(part, level, message='words', node='seg_node'):
    return SimpleNamespace(name=f'{node}: {part}', level=bytes([level]), message=message)


@pytest.mark.parametrize('node, front, cameras, well', [
    (0, 0, False, True), (1, 2, False, True), (0, 3, False, True), (2, 0, False, False),
    (3, 0, False, False), (0, 2, True, False), (0, 3, True, False), (1, 1, True, True)])
def test_whose_error_it_is(node, front, cameras, well):
    found = judged([status('node', node, 'active'), status('front', front)], 'seg_node', cameras)
    assert found[0] == well and found[1].startswith('node ') and '; front ' in found[1]


def test_others_are_not_listened_to():
    assert judged([status('node', 0, node='other/seg_node'), status('front', 0)], 'seg_node',
                  False) == (False, '')
    assert judged([status('node', 0, node='car/seg_node')], 'car/seg_node', False)[0]


CHECK = (sys.executable, '-m', 'seg_node.tools.healthcheck')
NOTHING = '/seg_node has said nothing on /diagnostics for 1 s'


def ask(*arguments):
    """Run the check as the container does; return its exit status and what it says."""
    done = subprocess.run([*CHECK, *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.strip()


def test_it_takes_no_shared_memory():
    """A container has little, and each process with the profile takes 32 MB of it."""
    segments = set()
    # With the range LOCALHOST of the other tests rmw_fastrtps adds shared memory by itself.
    with subprocess.Popen([*CHECK, '--seconds', '1'], stdout=subprocess.PIPE, text=True,
                          env=os.environ | {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET'}) as process:
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            maps = Path(f'/proc/{process.pid}/maps').read_text(errors='replace')
            segments |= set(re.findall(r'/dev/shm/fastdds_\w+', maps))
            time.sleep(0.02)
        assert (process.wait(5), process.stdout.read().strip()) == (1, NOTHING)
    assert not segments


def test_a_real_node(tmp_path):
    assert ask('--seconds', '1') == (1, NOTHING)
    with NodeProcess(tmp_path, model=MODELS / 'palette_stride8', backend='onnxruntime') as node:
        code, said = ask('--seconds', '30')
        assert code == 0 and said.startswith('node '), (said, node.log)
