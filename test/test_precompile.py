"""No start of the node compiles what an installation has compiled."""

import ast
import os
from pathlib import Path
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Whatever is compiled in this process is printed.
WATCH = """
from numba.core import event

class Watch(event.Listener):
    def on_start(self, found):
        pass

    def on_end(self, found):
        print('COMPILED', found.data['dispatcher'])

event.register('numba:compile', Watch())
"""
# The node's road, with what varies from camera to camera and from model to model.
ROAD = WATCH + """
import numpy as np
from seg_node.devices.choose import open_segmenter, Wish
from seg_node.frame import Frame, StageClock
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import load_card
from seg_node.pipeline import Pipeline
from seg_node.products import NAMES
from seg_node.running.warm_up import warm_up

for name in ('cityscapes19', 'nhwc_uint8', 'fp16', 'softmax', 'two_heads', 'labels'):
    card = load_card(f'test/models/palette_{name}')
    pipeline = Pipeline(open_segmenter(card, Wish('onnxruntime', threads=1)).segmenter,
                        card.main_output.classes)
    warm_up(pipeline)
    for height, width, step in ((120, 160, 480), (120, 160, 512), (97, 203, 609), (90, 60, 180)):
        data = np.zeros(height * step, np.uint8)
        message = ImageMessage(Header(0, 0, ''), height, width, 'bgr8', False, step, data)
        [result] = pipeline.process([Frame('', message)], [NAMES], StageClock())
        assert result.images['mask'].shape == (height, width), result
print('DONE')
"""


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
    """Compile into an empty cache; return the environment and what was printed."""
    environment = {**os.environ,
                   'NUMBA_CACHE_DIR': str(tmp_path_factory.mktemp('loops'))}
    result = subprocess.run([sys.executable, '-m', 'seg_node.tools.precompile'], cwd=ROOT,
                            env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    return environment, result.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_is_compiled_on_the_road(compiled):
    result = subprocess.run([sys.executable, '-c', ROAD], cwd=ROOT, env=compiled[0],
                            capture_output=True, text=True, timeout=120)
    assert result.returncode == 0 and 'DONE' in result.stdout, result.stderr
    assert 'COMPILED' not in result.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_loop_is_compiled_once(compiled):
    environment, said = compiled
    code = ('from seg_node.tools import precompile as p\np.exercise()\n'
            'for name, loop in p.kernels().items():\n'
            '    print(name, len(loop.signatures), sum(loop.stats.cache_misses.values()))')
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=environment,
                            capture_output=True, text=True, timeout=120, check=True)
    found = {}
    for line in result.stdout.splitlines():
        name, signatures, misses = line.split()
        found[name] = int(signatures)
        assert misses == '0', line
    assert said.startswith(f'{len(found)} loops are compiled')
    assert all(found.values()) and set(found) == set(loops())


def loops():
    """Yield the loops that are kept compiled, as the sources declare them."""
    for path in (ROOT / 'seg_node').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.FunctionDef) and any(
                    ast.unparse(entry).startswith(('njit', 'numba.njit'))
                    for entry in node.decorator_list):
                parts = path.relative_to(ROOT).with_suffix('').parts
                yield f'{".".join(parts)}.{node.name}'


def test_every_loop_goes_by_one_decorator():
    """Numba's own ends the program where no cache can be written."""
    for path in (ROOT / 'seg_node').rglob('*.py'):
        assert path.name == 'jit.py' or not re.search(r'^(from|import) numba', path.read_text(),
                                                      re.MULTILINE), path


def test_without_any_cache_the_loops_still_run(tmp_path):
    copy = tmp_path / 'seg_node'
    for path in (ROOT / 'seg_node').rglob('*.py'):
        target = copy / path.relative_to(ROOT / 'seg_node')
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        (target.parent / '__pycache__').touch()  # no folder, whoever asks for one
    (tmp_path / 'file').touch()
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('NUMBA_CACHE_DIR', 'XDG_CACHE_HOME')}
    code = ('import numpy as np\nfrom seg_node.jit import njit\nfrom seg_node import labels\n'
            'print(labels.__file__, labels._fill.stats.cache_path)')
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**environment, 'HOME': str(tmp_path / 'file'), 'PYTHONPATH': str(tmp_path),
             'XDG_CACHE_HOME': str(tmp_path / 'file')})
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(copy / 'labels.py'), 'None']
