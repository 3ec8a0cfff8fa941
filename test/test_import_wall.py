"""The wall between the core and ROS: imports point one way, and a laptop without ROS suffices."""

import ast
from functools import cache
from pathlib import Path
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'seg_node'
SHELLS = ('ros', 'tools', 'playback', 'viewing', 'archive')
MODULES = sorted(PACKAGE.rglob('*.py'))
STREET = sorted((ROOT / 'street').rglob('*.py'))
CORE = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] not in SHELLS]
ROS_NAME = re.compile(r'(rclpy|rosbags|rosidl\w*|rmw\w*|launch|launch_ros|cv_bridge|\w+_msgs|'
                      r'\w+_srvs|rcl_interfaces|builtin_interfaces)(\.|$)')
SHELL_NAME = re.compile(r'seg_node\.(ros|tools|playback|viewing|archive)(\.|$)')

# Refuses ROS while it imports what it is given, wherever in the import chain it would come in.
PROBE = f"""
import importlib, re, sys
from importlib.abc import MetaPathFinder

class Wall(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if re.match({ROS_NAME.pattern!r}, name) or re.match({SHELL_NAME.pattern!r}, name):
            raise AssertionError('the core imports ' + name)

sys.meta_path.insert(0, Wall())
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except AssertionError as error:
        sys.exit(f'{{name}}: {{error}}')
"""


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def absolute(node, path):
    """Return the full names of what an import statement in a file of the package imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not node.level:
        base = node.module
    else:
        package = path.relative_to(ROOT).parent.parts
        kept = package[:len(package) - node.level + 1]
        base = '.'.join([*kept, node.module] if node.module else kept)
    return [base, *(f'{base}.{alias.name}' for alias in node.names)]


@cache
def imports(path, source=None):
    """Return the import statements of a file, at any depth of its code."""
    tree = ast.parse(source or path.read_text(encoding='utf-8'))
    return [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]


def violations(path, forbidden, source=None):
    """Return where a file imports, at any depth, a name that the pattern matches."""
    found = []
    for node in imports(path, source):
        names = [name for name in absolute(node, path) if forbidden.match(name)]
        if names:
            found.append(f'{path.relative_to(ROOT)}:{node.lineno} imports {names[0]}')
    return found


def test_importing_the_core_needs_no_ros():
    result = subprocess.run([sys.executable, '-c', PROBE, *map(module_name, CORE)], cwd=ROOT,
                            capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_the_probe_sees_a_breach(tmp_path):
    (tmp_path / 'outer.py').write_text('import inner_of_outer')
    (tmp_path / 'inner_of_outer.py').write_text('import sensor_msgs.msg')
    result = subprocess.run([sys.executable, '-c', PROBE, 'outer'], cwd=tmp_path,
                            capture_output=True, text=True, timeout=60)
    assert 'outer: the core imports sensor_msgs' in result.stderr


@pytest.mark.parametrize('path', CORE, ids=module_name)
def test_core_module_names_no_ros(path):
    assert not violations(path, ROS_NAME) + violations(path, SHELL_NAME)


@pytest.mark.parametrize('path', sorted(PACKAGE.glob('ros/**/*.py')), ids=module_name)
def test_node_does_not_need_the_tools(path):
    assert not violations(path, re.compile(
        r'(seg_node\.(tools|playback|viewing|archive)|rosbags|tqdm)(\.|$)'))


@pytest.mark.parametrize('source, name', [
    ('import rclpy', 'rclpy'), ('from rclpy.node import Node', 'rclpy.node'),
    ('def f():\n    from sensor_msgs.msg import Image', 'sensor_msgs.msg'),
    ('try:\n    import vision_msgs\nexcept ImportError:\n    pass', 'vision_msgs'),
    ('from .ros import node', 'seg_node.ros'), ('from . import tools', 'seg_node.tools'),
    ('from seg_node import ros', 'seg_node.ros'),
    ('import seg_node.ros.node', 'seg_node.ros.node'),
])
def test_the_walk_sees_a_breach(source, name):
    either = re.compile(f'{ROS_NAME.pattern}|{SHELL_NAME.pattern}')
    [line] = violations(PACKAGE / 'geometry.py', either, source)
    assert line.endswith(f'imports {name}')


def test_the_walk_counts_levels():
    node = ast.parse('from ..ros import node').body[0]
    assert absolute(node, PACKAGE / 'devices' / 'onnx_runtime.py')[0] == 'seg_node.ros'
    assert absolute(node, PACKAGE / 'devices' / '__init__.py')[0] == 'seg_node.ros'


GPU_PROBE = """
import importlib, re, sys
from importlib.abc import MetaPathFinder

class Bare(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if re.match(r'(pycuda|tensorrt|tensorrt_rtx|cuda|onnx)([.]|$)', name):
            raise ModuleNotFoundError('not installed on this machine: ' + name)

sys.meta_path.insert(0, Bare())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_module_of_the_core_is_importable_without_the_gpu_libraries():
    found = subprocess.run([sys.executable, '-c', GPU_PROBE, *map(module_name, CORE)],
                           capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize('library, home', [('pycuda', 'driver.py'), ('tensorrt', 'trt.py')])
def test_a_gpu_library_is_named_in_one_module_only(library, home):
    pattern = re.compile(rf'{library}\\w*(\\.|$)')
    where = {path.relative_to(PACKAGE).as_posix() for path in MODULES
             if violations(path, pattern)}
    assert where <= {f'gpu/{home}'}


#: What each room may import of the others, beside the spine (the files of seg_node/ itself).
ROOMS = {
    'image': set(), 'model': set(), 'ground': {'model'},
    'devices': {'image', 'model', 'gpu'}, 'gpu': {'image', 'model', 'devices'},
    'engines': {'image', 'model', 'devices', 'gpu', 'scoring'},
    'proving': {'image', 'model', 'devices', 'gpu', 'engines', 'scoring'},
    'trust': {'image', 'model'}, 'scoring': {'image', 'model', 'ground', 'trust'},
    'viewing': {'image'},
    'playback': {'image', 'model', 'ground', 'scoring', 'ros'},
    'archive': {'image', 'model', 'devices', 'ground', 'scoring', 'playback', 'running', 'ros'},
    'health': set(), 'running': {'image', 'model', 'devices', 'trust'},
    'ros': {'health', 'image', 'model', 'devices', 'gpu', 'ground', 'trust', 'running'},
}
#: What the car never needs: the factory of engines, data sets, recordings, the renderer.
NOT_ON_THE_ROAD = ('engines', 'proving', 'scoring', 'playback', 'viewing', 'archive', 'tools',
                   'street')


NAMED = {module_name(module): module for module in [*MODULES, *STREET]}


def imported_by(path):
    """Return the modules of this repository that a file imports, at any depth of its code."""
    return {NAMED[name] for node in imports(path) for name in absolute(node, path)
            if name in NAMED}


def room(path):
    """Return the room that a module lies in, '' for the spine."""
    parts = path.relative_to(ROOT).parts
    return 'street' if parts[0] == 'street' else parts[1] if len(parts) > 2 else ''


def closure(start):
    """Return all modules that a file's imports lead to."""
    seen, front = set(), {start}
    while front:
        path = front.pop()
        seen.add(path)
        front |= imported_by(path) - seen
    return seen


def test_the_node_reaches_only_what_the_car_needs():
    reached = closure(PACKAGE / 'ros' / 'main.py')
    assert {'ros', 'devices', 'gpu', 'image', 'model', ''} <= {room(path) for path in reached}
    astray = {module_name(path) for path in reached if room(path) in NOT_ON_THE_ROAD}
    assert not astray


@pytest.mark.parametrize('name', ROOMS)
def test_a_room_imports_only_what_stands_below_it(name):
    found = {room(other) for path in PACKAGE.glob(f'{name}/*.py') for other in imported_by(path)}
    assert found - {'', name} <= ROOMS[name]


def test_the_spine_stands_on_rooms_that_know_nothing_of_threads_and_ros():
    found = {room(other) for path in PACKAGE.glob('*.py') for other in imported_by(path)}
    assert found == {'', 'devices', 'image', 'model', 'trust'}


def test_what_is_installed_does_not_need_the_renderer():
    assert not [module_name(path) for path in MODULES
                for other in imported_by(path) if room(other) == 'street']


def test_no_file_imports_itself_by_a_detour():
    graph = {path: imported_by(path) - {path} for path in [*MODULES, *STREET]
             if path.name != '__init__.py'}
    while leaves := [path for path, needs in graph.items() if not needs & graph.keys()]:
        for path in leaves:
            del graph[path]
    assert not sorted(map(module_name, graph))
