"""What README and docs say is what the code does, and the commands in them run."""

from functools import cache
import os
from pathlib import Path
import re
import runpy
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest
from test_import_wall import imported_by, room, ROOMS

from seg_node.health import rules
from seg_node.products import NAMES
from seg_node.ros.launching import arguments as launch_arguments
from seg_node.ros.parameter_table import CAMERA, NODE, table

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / 'README.md'
DOCS = [README, ROOT / 'CONTRIBUTING.md', *sorted(ROOT.glob('docs/*.md')),
        *(ROOT / folder / 'README.md' for folder in ('models', 'training'))]
#: Paths of files; some words in capitals stand for a name of the reader's.
FILES = re.compile(r'[\w.-]+(/[\w.-]+)+\.(py|md|yaml|toml|txt|json|cu|sh|jpg|xml|onnx)')
PLACEHOLDER = re.compile(r'\b(NAME|SOURCE_to_TARGET)\b')


def read(path):
    return path.read_text(encoding='utf-8')


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(params=DOCS, ids=name_of)
def page(request):
    return request.param


def test_the_readme_is_read_in_one_sitting():
    assert len(read(README).splitlines()) <= 150


def test_parameter_tables_are_the_code_s():
    text = read(ROOT / 'docs' / 'parameters.md')
    shown = re.search(r'<!-- parameters: .*?-->\n(.*?)<!-- end', text, re.S).group(1)
    tables = re.findall(r'(?:\|.*\|\n)+', shown)
    assert [found.strip() for found in tables] == [
        table(NODE), table(CAMERA, '<camera>.')]


def test_the_figures_shown_are_those_that_were_measured():
    tables = SimpleNamespace(**runpy.run_path(str(ROOT / 'scripts' / 'benchmark_tables.py')))
    for path, text in tables.files().items():
        assert read(path) == text, f'{name_of(path)}: run python scripts/benchmark_tables.py'
    assert tables.BEGIN in read(tables.PAGE)


def test_the_tables_of_the_diagnostics_are_the_code_s():
    text = read(ROOT / 'docs' / 'diagnostics.md')
    shown = re.search(r'<!-- rules -->\n(.*?)<!-- end', text, re.S).group(1)
    assert [table.strip() for table in re.findall(r'(?:\|.*\|\n)+', shown)] == [
        rules.table(rules.CAMERA), rules.table(rules.CAUSES), rules.table(rules.SURROUNDINGS)]


def test_every_output_is_listed():
    text = read(README)
    for name in (*NAMES, 'camera_info', 'label_info', 'label_info_json'):
        assert f'~/front/{name}`' in text or f'`{name}`' in text, name


def test_every_program_is_listed():
    programs = set(re.findall(r"'(\w+) = seg_node\.tools", read(ROOT / 'setup.py')))
    section = re.search(r'^## Tools\n(.*?)^## ', read(README), re.MULTILINE | re.DOTALL).group(1)
    rows = re.findall(r'^\| (`.*?`) \|', section, re.MULTILINE)
    assert programs == set(re.findall(r'`(\w+)', ' '.join(rows)))


def test_every_page_is_linked():
    linked = set(re.findall(r'\]\(docs/(\w+\.md)', read(README)))
    assert {path.name for path in ROOT.glob('docs/*.md')} <= linked


# how it is built

BUILT = ROOT / 'docs' / 'how_it_is_built.md'


def test_the_rooms_are_those_that_the_import_wall_keeps():
    rows = {name: set(re.findall(r'`(\w+)`', needs)) for name, needs in
            re.findall(r'^\| `(\w+)/` \|.*\| ([^|]+) \|$', read(BUILT), re.MULTILINE)}
    street = {room(other) for path in ROOT.glob('street/*.py') for other in imported_by(path)}
    assert rows.pop('street') >= street - {'', 'street'}
    assert rows.pop('tools') == set()
    assert rows == ROOMS


def test_the_contributor_s_table_names_every_folder_of_code():
    named = set(re.findall(r'^\| `([\w/]+)/` \|', read(ROOT / 'CONTRIBUTING.md'), re.MULTILINE))
    code = {path.parent for top in ('seg_node', 'street', 'training')
            for path in (ROOT / top).rglob('*.py')} - {ROOT / 'training' / 'models'}
    assert {folder.relative_to(ROOT).as_posix() for folder in code} <= named
    assert all((ROOT / folder).is_dir() for folder in named)


# every link, file and command

def anchors(path):
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-')
            for title in re.findall(r'^#+ (.*)$', read(path), re.MULTILINE)}


def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)]+)\)', read(page)):
        if not target.startswith('http'):
            file, _, anchor = target.partition('#')
            path = page.parent / file if file else page
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), target


def test_named_files_exist(page):
    homes = (ROOT, ROOT / 'seg_node', page.parent)
    for text in re.findall(r'`([^`\n]+)`', read(page)):
        if FILES.fullmatch(text) and not PLACEHOLDER.search(text):
            assert any((home / text).exists() for home in homes), text


def test_make_targets_exist(page):
    targets = set(re.findall(r'^([a-z-]+):', read(ROOT / 'Makefile'), re.MULTILINE))
    assert set(re.findall(r'[`$] ?(?:[A-Z_]+=\S+ )*make ([a-z][a-z-]*)', read(page))) <= targets


def test_modules_that_are_run_exist(page):
    for module in set(re.findall(r'python3? -m ((?:seg_node|street|training)[\w.]*)', read(page))):
        if PLACEHOLDER.search(module):
            continue
        path = ROOT.joinpath(*module.split('.'))
        assert path.with_suffix('.py').exists() or (path / '__main__.py').exists(), module


def commands(page):
    """Return the lines of a page's bash blocks, those that go on joined, without comments."""
    blocks = re.findall(r'^( *)```(?:bash|sh)\n(.*?)^ *```', read(page), re.MULTILINE | re.DOTALL)
    text = '\n'.join(re.sub(rf'^{indent}', '', block, flags=re.MULTILINE)
                     for indent, block in blocks).replace('\\\n', ' ')
    words = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [line for line in words if line]


@cache
def help_of(module):
    return subprocess.run([sys.executable, '-m', module, '--help'], cwd=ROOT, check=True,
                          capture_output=True, text=True, timeout=120,
                          env=os.environ | {'PYTHONPATH': str(ROOT)}).stdout


def check_options(module, arguments):
    """Fail unless the program lists every option that the arguments use."""
    for option in (word.partition('=')[0] for word in arguments if word.startswith('--')):
        assert re.search(rf'{option}\b', help_of(module)), (module, option)


def check_make(arguments):
    *_, done = subprocess.run(['make', '-n', *arguments], cwd=ROOT, capture_output=True,
                              text=True, timeout=60).stdout.splitlines()
    assert done


def check_ros2_run(arguments):
    package, name, *rest = arguments
    assert package == 'seg_node'
    entries = dict(re.findall(r"'(\w+) = ([\w.]+):main'", read(ROOT / 'setup.py')))
    if name != 'seg_node':  # whose arguments are parameters
        check_options(entries[name], rest)


def check_ros2_launch(arguments):
    package, file, *rest = arguments
    assert package == 'seg_node'
    own = re.findall(r"DeclareLaunchArgument\(\s*'(\w+)'", read(ROOT / 'launch' / file))
    known = {*own, *(argument.name for argument in launch_arguments())}
    assert {word.partition(':=')[0] for word in rest} <= known


def check_python(arguments):
    """Run the program where it needs nothing; else its options must exist."""
    if arguments[0] != '-m':
        return  # a snippet of models/README.md, which test_card.py runs
    _, module, *rest = arguments
    if rest:
        if not module.startswith('training.'):  # needs torch; test_training.py runs these
            check_options(module, rest)
    else:
        subprocess.run([sys.executable, '-m', module], cwd=ROOT, check=True, timeout=120,
                       capture_output=True, env=os.environ | {'PYTHONPATH': str(ROOT)})


#: What the commands begin with, and how each kind is tried. None: cannot be tried here.
KINDS = {
    'make': check_make, 'ros2 run': check_ros2_run, 'ros2 launch': check_ros2_launch,
    'python': check_python, 'python3': check_python,
    'cd': None, 'git': None, 'rosdep': None, 'colcon': None, 'source': None, '.': None,
    'export': None, 'sudo': None, 'apt': None, 'docker': None, 'tar': None,
}


def environment_taken_off(line):
    while re.match(r'[A-Z_]+=', line[0]):
        line = line[1:]
    return line


def test_commands_run(page):
    for line in map(environment_taken_off, commands(page)):
        two, one = ' '.join(line[:2]), line[0]
        kind = two if two in KINDS else one
        assert kind in KINDS, f'{name_of(page)} has a command that no test tries: {line}'
        if KINDS[kind] is not None:
            KINDS[kind](line[len(kind.split()):])


def test_there_are_commands_to_run():
    found = [' '.join(line[:3]) for page in DOCS for line in commands(page)]
    assert {'make demo', 'make test', 'ros2 run seg_node', 'ros2 launch seg_node'} <= set(found)
