"""The health check of the container: what it makes of what a real node says."""

from pathlib import Path
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


def ask(*arguments):
    """Run the check as the container does; return its exit status and what it says."""
    def files():
        return {path.name for path in Path('/dev/shm').glob('fastdds_*')}
    before, made = files(), set()
    with subprocess.Popen([sys.executable, '-m', 'seg_node.tools.healthcheck', *arguments],
                          stdout=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            mine = Path(f'/proc/{process.pid}/maps')
            made |= {name for name in files() - before if mine.exists()
                     and name in mine.read_text(errors='replace')}
            time.sleep(0.05)
        assert process.poll() is not None and not made  # it takes no shared memory
        return process.returncode, process.stdout.read().strip()


def test_a_real_node(tmp_path):
    assert ask('--seconds', '1') == (1, '/seg_node has said nothing on /diagnostics for 1 s')
    with NodeProcess(tmp_path, model=MODELS / 'palette_stride8', backend='onnxruntime') as node:
        code, said = ask('--seconds', '30')
        assert code == 0 and said.startswith('node '), (said, node.log)
