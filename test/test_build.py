"""What colcon builds: the files, the programs, and the loops, compiled once and for all."""

import ast
import json
import os
from pathlib import Path
import re
import subprocess
import sys

from patience import patience
import pytest

ROOT = Path(__file__).resolve().parents[1]
EXECUTABLES = set(re.findall(r"'(\w+) = seg_node\.[\w.]+:main'", (ROOT / 'setup.py').read_text()))

# On a machine that others use, too, the loops alone take minutes.
pytestmark = pytest.mark.timeout(500)

# Starts the scripts of programs as a shell does, one after the other.
TOOLS = """
import contextlib, io, json, runpy, sys
found = {}
for name in sys.argv[1:]:
    said, sys.argv = io.StringIO(), [name, '--help']
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(f'lib/seg_node/{name}', run_name='__main__')
    except SystemExit as end:
        found[name] = end.code, said.getvalue()
print(json.dumps(found))
"""

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
import sys
import numpy as np
from seg_node.devices.choose import open_segmenter, Wish
from seg_node.frame import Frame, StageClock
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import load_card
from seg_node.pipeline import Pipeline
from seg_node.products import NAMES
from seg_node.running.warm_up import warm_up

MODELS = sys.argv[1]
for name in ('cityscapes19', 'nhwc_uint8', 'fp16', 'softmax', 'two_heads', 'labels'):
    card = load_card(f'{MODELS}/palette_{name}')
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
def workspace(tmp_path_factory):
    """Build the package with colcon; return (install folder, environment with it sourced)."""
    pytest.importorskip('colcon_ros', reason='needs colcon')
    folder = tmp_path_factory.mktemp('ws')
    (folder / 'src').mkdir()
    (folder / 'src' / 'seg_node').symlink_to(ROOT)
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('PYTHONPATH', 'AMENT_PREFIX_PATH')}
    # The scripts take the python3 of whom they are run by, here this one.
    environment['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    result = subprocess.run([sys.executable, '-m', 'colcon', 'build', '--merge-install'],
                            cwd=folder, env=environment, capture_output=True, text=True,
                            timeout=patience(120))
    assert result.returncode == 0, result.stdout + result.stderr
    sourced = subprocess.run(['sh', '-c', '. install/setup.sh && env -0'], cwd=folder,
                             env=environment, capture_output=True, text=True, check=True)
    pairs = (line.partition('=') for line in sourced.stdout.split('\0') if line)
    return folder / 'install', {name: value for name, _, value in pairs}


def run(workspace, *command):
    """Run a command in the sourced workspace, from a folder that is not the source's."""
    folder, environment = workspace
    return subprocess.run([folder / command[0], *command[1:]], cwd=folder, env=environment,
                          capture_output=True, text=True, timeout=patience(60))


@pytest.mark.slow
def test_the_build_installs_what_ros_looks_for(workspace):
    folder, environment = workspace
    assert str(folder) in environment['AMENT_PREFIX_PATH'].split(os.pathsep)
    assert (folder / 'share/ament_index/resource_index/packages/seg_node').is_file()
    programs = list((folder / 'lib' / 'seg_node').iterdir())
    assert {program.name for program in programs} == EXECUTABLES >= {'seg_node', 'replay', 'demo'}
    assert all(os.access(program, os.X_OK) and
               program.read_text().startswith('#!/usr/bin/env python3\n') for program in programs)


@pytest.mark.slow
def test_the_build_installs_all_shared_files(workspace):
    share = workspace[0] / 'share' / 'seg_node'
    tops = ('config', 'drive', 'launch', 'models', 'calibration', 'presets', 'rviz')
    expected = {path.relative_to(ROOT) for top in tops for path in (ROOT / top).rglob('*')
                if path.is_file() and '__pycache__' not in path.parts
                and not any(part.startswith('.') for part in path.relative_to(ROOT).parts)}
    installed = {path.relative_to(share) for top in tops for path in (share / top).rglob('*')
                 if path.is_file()}
    assert installed == expected
    assert Path('models/card.schema.json') in installed
    assert (share / 'package.xml').is_file()


@pytest.mark.slow
def test_the_installed_tools_start(workspace):
    """All in one process, by the scripts that are installed: each alone imports for a second."""
    found = json.loads(python(workspace, TOOLS, *sorted(EXECUTABLES - {'seg_node'})))
    assert set(found) == EXECUTABLES - {'seg_node'}
    for name, (code, said) in found.items():
        assert code in (0, None) and 'usage: ' in said, (name, code, said)


@pytest.mark.slow
def test_the_installed_node_finds_the_installed_files(workspace):
    folder, environment = workspace
    code = 'import seg_node.paths as p; print(p.__file__, p.shared("models"))'
    result = subprocess.run([sys.executable, '-c', code], cwd=folder, env=environment,
                            capture_output=True, text=True, check=True)
    assert all(Path(part).is_relative_to(folder) for part in result.stdout.split())
    # The message about an unknown model lists those that it found.
    result = run(workspace, 'lib/seg_node/seg_node', '--ros-args', '-p', 'model:=no_such_model')
    shipped = [card.parent.name for card in ROOT.glob('models/*/card.yaml')]
    assert result.returncode == 1 and all(name in result.stderr for name in shipped)


def python(workspace, code, *arguments):
    """Run Python code in the sourced workspace; return what it printed."""
    folder, environment = workspace
    result = subprocess.run([sys.executable, '-c', code, *arguments], cwd=folder, env=environment,
                            capture_output=True, text=True, timeout=patience(120))
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_nothing_is_compiled_on_the_road(workspace):
    """No start of the node compiles what an installation has compiled."""
    said = python(workspace, ROAD, str(ROOT / 'test' / 'models'))
    assert 'DONE' in said and 'COMPILED' not in said


@pytest.mark.slow
def test_every_loop_is_compiled_once(workspace):
    code = ('import seg_node.tools.precompile as p\np.main([])\n'
            'for name, loop in p.kernels().items():\n'
            '    print(name, len(loop.signatures), sum(loop.stats.cache_misses.values()))')
    said, *lines = python(workspace, code).splitlines()
    found = {}
    for line in lines:
        name, signatures, misses = line.split()
        found[name] = int(signatures)
        assert misses == '0', line
    assert said.startswith(f'{len(found)} loops are compiled for this processor (0 of them now')
    assert str(workspace[0]) in said
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
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True,
        timeout=patience(60), env={**environment, 'HOME': str(tmp_path / 'file'),
                                   'PYTHONPATH': str(tmp_path),
                                   'XDG_CACHE_HOME': str(tmp_path / 'file')})
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(copy / 'labels.py'), 'None']
