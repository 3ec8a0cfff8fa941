"""What is installed: the manifest, the dependencies, and the environments."""

import ast
from functools import cache
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

from patience import patience
import pytest

import seg_node

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()

# What a module is called as a ROS dependency and on PyPI, where that is not its own name.
ROSDEP = {'cv2': 'python3-opencv', 'yaml': 'python3-yaml', 'rosbags': 'python3-rosbags-pip',
          'onnxruntime': 'python3-onnxruntime-pip', 'numpy': 'python3-numpy',
          'numba': 'python3-numba', 'simplejpeg': 'python3-simplejpeg-pip',
          'jsonschema': 'python3-jsonschema', 'tqdm': 'python3-tqdm',
          'PIL': 'python3-pil', 'pytest': 'python3-pytest',
          'hypothesis': 'python3-hypothesis', 'tf2_ros': 'tf2_ros_py'}
PYPI = {'cv2': 'opencv-python-headless', 'yaml': 'PyYAML', 'PIL': 'Pillow'}
# What the node is faster with and runs without; no ROS distribution has it.
OPTIONAL = {'openvino'}
# What the tools do more with; each is in a file of its own below requirements/, or (mcap) has no
# ROS package, or (HEIC) is for those who want it.
EXTRAS = {'av', 'fsspec', 'mcap', 'pillow_heif', 'pyarrow', 'pydensecrf', 'ray', 'rerun'}
# Tests that need these are skipped without them.
WITHOUT_ROSDEP = {'onnx', 'catkin_pkg', 'rosidl_cli'}
# What pytest loads without an import.
PLUGINS = {'python3-pytest-timeout'}
# vision_msgs and bond have no wheel; the node does without.
WITHOUT_WHEEL = {'vision_msgs', 'bond', 'launch', 'launch_ros', 'tf2_msgs', 'tf2_ros'}


def imported(*patterns):
    """Return the third-party modules that files of the package import, at any depth."""
    names = {name for pattern in patterns for path in ROOT.glob(pattern)
             for name in imported_by(path)}
    own = {'seg_node', 'street', 'importing', 'training', 'gpu',
           *(path.stem for path in ROOT.glob('test/*.py'))}
    return names - set(sys.stdlib_module_names) - own


@cache
def imported_by(path):
    """Return the modules that a file imports, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition('.')[0])
    return names


def requirements(*names):
    text = '\n'.join((ROOT / 'requirements' / f'{name}.txt').read_text() for name in names)
    return set(re.findall(r'^([A-Za-z][\w.-]*)', text, re.MULTILINE))


def test_there_is_one_version():
    assert MANIFEST.findtext('version') == seg_node.__version__


def test_the_manifest_is_valid():
    package = pytest.importorskip('catkin_pkg.package').parse_package(ROOT)
    assert package.package_format == 3 and package.licenses == ['Apache-2.0']
    assert package.get_build_type() == 'ament_python'


def test_a_ros_installation_gets_everything_that_is_imported():
    for_running = {element.text for element in MANIFEST.iter('exec_depend')}
    for_testing = {element.text for element in MANIFEST.iter('test_depend')}
    used = {ROSDEP.get(name, name) for name in imported('seg_node/**/*.py', 'launch/*.py')}
    tested = {ROSDEP.get(name, name) for name in imported('test/*.py')}
    assert used - OPTIONAL - EXTRAS == for_running
    assert (tested - used - WITHOUT_ROSDEP) | PLUGINS == for_testing


@pytest.mark.parametrize('distro', ['kilted', 'jazzy'])
def test_the_virtual_environment_gets_everything_that_is_imported(distro):
    names = imported('seg_node/**/*.py') - WITHOUT_WHEEL - OPTIONAL - EXTRAS
    names |= {name for name in imported('test/*.py')
              if name.endswith(('_msgs', '_srvs', '_interfaces'))} - WITHOUT_WHEEL
    files = ('runtime', 'tools', f'ros-{distro}')
    as_wheels = {f'ros-{distro}-{name.replace("_", "-")}' for name in names
                 if name not in ROSDEP}
    as_wheels |= {PYPI.get(name, name) for name in names if name in ROSDEP}
    assert as_wheels | {f'ros-{distro}-rmw-fastrtps-cpp', 'mcap'} == requirements(*files)


def test_the_core_needs_only_the_runtime_requirements():
    core = imported('seg_node/*.py', *(f'seg_node/{room}/*.py' for room in
                                       ('devices', 'ground', 'image', 'model')))
    names = {PYPI.get(name, name) for name in core} - {'ament_index_python'}
    assert names == requirements('runtime') | OPTIONAL == requirements('runtime', *OPTIONAL)


def test_pyproject_holds_settings_of_tools_only():
    """A [project] table makes setuptools drop the entry points, and the build succeeds."""
    tables = re.findall(r'^\[+([\w.-]+)', (ROOT / 'pyproject.toml').read_text(), re.MULTILINE)
    assert tables and all(table.startswith('tool.') for table in tables)


def make_environment(folder, *files, python=sys.executable):
    return subprocess.run(['sh', ROOT / 'scripts' / 'venv.sh', folder, *files], text=True,
                          env={**os.environ, 'PYTHON': str(python)}, timeout=patience(120),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_the_virtual_environment_is_made_once(tmp_path):
    folder, wanted = tmp_path / 'venv', tmp_path / 'wanted.txt'
    python = folder / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.symlink_to(tmp_path / 'an_interpreter_that_was_removed')
    (folder / 'bin' / 'pip').touch(mode=0o755)
    wanted.write_text('./no_such_folder\n')
    for _ in range(2):  # a failed installation is not taken for a finished one
        failed = make_environment(folder, wanted)
        assert failed.returncode != 0 and 'no_such_folder' in failed.stdout
    assert subprocess.run([python, '-c', ''], check=False).returncode == 0

    for line in ('# nothing\n', '# still nothing\n'):
        wanted.write_text(line)
        first = make_environment(folder, wanted)
        assert first.returncode == 0 and 'Installing' in first.stdout
        assert make_environment(folder, wanted).stdout == ''


@pytest.mark.slow
@pytest.mark.parametrize('options, sees', [('--system-site-packages', True), ('', False)])
def test_the_environment_of_gpu_check_sees_an_installed_tensorrt(tmp_path, monkeypatch, options,
                                                                 sees):
    wanted, user = tmp_path / 'wanted.txt', tmp_path / 'user'
    wanted.write_text('# nothing\n')
    monkeypatch.setenv('PYTHONUSERBASE', str(user))  # like the system's, not an environment's own
    monkeypatch.setenv('VENV_OPTIONS', options)
    monkeypatch.delenv('PYTHONPATH', raising=False)
    made = make_environment(tmp_path / 'venv', wanted)
    assert made.returncode == 0, made.stdout
    python = tmp_path / 'venv' / 'bin' / 'python'
    packages = Path(subprocess.check_output(
        [python, '-c', 'import site; print(site.getusersitepackages())'], text=True).strip())
    assert packages.is_relative_to(user)
    packages.mkdir(parents=True)
    (packages / 'tensorrt.py').write_text("__version__ = '10.3.0'\n")
    found = subprocess.run([python, '-c', 'import tensorrt; print(tensorrt.__version__)'],
                           capture_output=True, text=True)
    assert (found.stdout == '10.3.0\n') == sees


@pytest.mark.skipif(not shutil.which('make'), reason='needs make')
def test_gpu_check_needs_no_ros():
    dry = subprocess.run(['make', '-n', 'gpu-check'], cwd=ROOT, capture_output=True, text=True,
                         check=True).stdout
    assert 'VENV_OPTIONS=--system-site-packages scripts/venv.sh .venv-gpu ' in dry
    assert 'ros-' not in dry and '.venv-gpu/bin/python -m seg_node.tools.gpu_check' in dry


@pytest.mark.parametrize('script, found', [
    ('echo 3.9.18', '(3.9.18)'), ('echo 3.15.0a1', '(3.15.0a1)'), ('echo 2.7.18', '(2.7.18)'),
    ('echo PyPy', '(PyPy)'), ('exit 127', '(does not run)'),
    ('case $2 in *ensurepip*) exit 1;; *) echo 3.11.2;; esac', '(3.11.2, without the venv'),
])
def test_an_unfit_interpreter_is_named(tmp_path, script, found):
    python = tmp_path / 'python3'
    python.write_text(f'#!/bin/sh\n{script}\n')
    python.chmod(0o755)
    result = make_environment(tmp_path / 'venv', tmp_path / 'none.txt', python=python)
    assert result.returncode == 1 and f'{python} {found}' in result.stdout
    assert 'Needs Python 3.10 to 3.14 with the venv module; found' in result.stdout
    assert not (tmp_path / 'venv').exists()


@pytest.mark.parametrize('there, files, taken', [
    ({'python3': '3.10.12'}, '', 'python3'), ({'python3': '3.13.5'}, '', 'python3'),
    ({'python3': '3.14.2', 'python3.12': '3.12.1'}, '', 'python3'),
    ({'python3': '3.9.2', 'python3.13': '3.13.0', 'python3.11': '3.11.7'}, '', 'python3.13'),
    ({'python3': '3.15.0', 'python3.14': '3.14.0'}, '', 'python3.14'),
    ({'python3': '3.13.5', 'python3.12': '3.12.1'}, 'ros-jazzy.txt', 'python3.12'),
])
def test_the_system_s_python_is_taken_where_it_fits(tmp_path, there, files, taken):
    for name, version in there.items():
        python = tmp_path / name
        python.write_text('#!/bin/sh\n'
                          f'case $* in *platform*) echo {version};; *venv\\ --clear*)'
                          f' echo made by {name}; exit 3;; esac\n')
        python.chmod(0o755)
    # Nothing else may be found: what the script calls beside, by its full path.
    for tool in ('basename', 'cat', 'cksum', 'dirname', 'flock', 'mkdir'):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    script = (ROOT / 'scripts' / 'venv.sh').read_text().replace(' /usr/bin/python3 ', ' ')
    (tmp_path / 'scripts').mkdir()
    (tmp_path / 'scripts' / 'venv.sh').write_text(script)
    result = subprocess.run(['/bin/sh', tmp_path / 'scripts' / 'venv.sh', tmp_path / 'venv',
                             *files.split()], env={'PATH': str(tmp_path)}, text=True, timeout=60,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (result.returncode, result.stdout) == (3, f'made by {taken}\n')


@pytest.mark.skipif(not shutil.which('make'), reason='needs make')
@pytest.mark.parametrize('distro, wheels, venv', [
    ('', 'kilted', '.venv'), ('kilted', 'kilted', '.venv'), ('jazzy', 'jazzy', '.venv-jazzy'),
    ('humble', 'kilted', '.venv')])
def test_a_sourced_ros_stays_out(distro, wheels, venv):
    foreign = {'ROS_DISTRO': distro, 'AMENT_PREFIX_PATH': '/opt/ros/x', 'PYTHONPATH': '/opt/ros/x',
               'LD_LIBRARY_PATH': '/opt/ros/x', 'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}
    plan = 'include Makefile\nshow:\n\t@env\n'
    result = subprocess.run(['make', '-f', '-', 'show'], input=plan, cwd=ROOT, text=True,
                            env={**os.environ, **foreign}, capture_output=True, check=True)
    assert '/opt/ros' not in result.stdout and f'ROS_DISTRO={wheels}\n' in result.stdout
    assert 'RMW_IMPLEMENTATION=rmw_fastrtps_cpp\n' in result.stdout
    dry = subprocess.run(['make', '-n', 'demo'], cwd=ROOT, env={**os.environ, **foreign},
                         capture_output=True, text=True, check=True).stdout
    assert f'scripts/venv.sh {venv} ' in dry and f'ros-{wheels}.txt' in dry
    assert ('There are no wheels of ROS 2 humble' in dry) == (distro == 'humble')


@pytest.mark.skipif(not shutil.which('make'), reason='needs make')
def test_the_viewer_is_installed_for_who_asks_for_it():
    for asked in (['VIEW=1'], []):
        dry = subprocess.run(['make', '-n', 'demo', *asked], cwd=ROOT, text=True, check=True,
                             capture_output=True).stdout
        assert ('requirements/view.txt' in dry) == bool(asked) and '${VIEW:+--view}' in dry
