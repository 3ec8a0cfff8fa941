"""Archives on real Ray: embedded and on two nodes, and whatever of it is killed."""

from contextlib import contextmanager, suppress
from importlib.util import find_spec
import os
from pathlib import Path
import re
import secrets
import signal
import subprocess
import sys
import time

from archives import bag, digests, label_here, order, rows
from patience import patience
import pytest

MODELS = Path(__file__).parent / 'models'
FRAMES, BAGS = 200, 4

# Not imported here: it reads its environment once.
if find_spec('ray') is None:
    pytest.skip('needs Ray: requirements/archive.txt', allow_module_level=True)


@pytest.fixture(scope='module')
def held(tmp_path_factory):
    """Return recordings, and their labels by one worker without Ray."""
    folder = tmp_path_factory.mktemp('held')
    (folder / 'bags').mkdir()
    for index in range(BAGS):
        bag(folder / 'bags' / f'{index}', FRAMES, 1000 * index)
    label_here(order(MODELS, piece_s=12.0), [folder / 'bags'], folder / 'out')
    (folder / 'bags' / 'none.mcap').touch()
    return folder


class Program:
    """``archive label`` as its user starts it, in a session of its own."""

    def __init__(self, held, out, *arguments):
        self.out, self.log = out, out.with_suffix('.log')
        with self.log.open('ab') as log:
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'seg_node.tools.archive', 'label', str(held / 'bags'),
                 '--out', str(out), '--model', str(MODELS / 'palette_cityscapes19'), '--backend',
                 'onnxruntime', '--piece', '0.2', *arguments],
                stdout=log, stderr=subprocess.STDOUT)

    def wait(self, condition, timeout_s=120.0):
        end = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.01)

    def workers(self):
        """Return the process ids of those who are at a piece."""
        return {int(found.group(1)) for path in self.out.glob('making/*')
                if (found := re.search(r'\.(\d+)\.\w+$', path.name))}

    def pieces(self):
        return len(list(self.out.glob('pieces/*/*/told.json'))) + len(
            list(self.out.glob('recordings/*')))

    def below(self):
        """Return the process and all that it started, and these, by process id."""
        children = {}
        for path in Path('/proc').glob('[0-9]*/stat'):
            try:
                parent = int(path.read_text().rpartition(')')[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(path.parent.name))
        found, front = [], [self.process.pid]
        while front:
            found += front
            front = [child for one in front for child in children.get(one, [])]
        return found

    def end(self, timeout_s=120.0):
        code = self.process.wait(timeout_s)
        return code, self.log.read_text()


def gone(pids, timeout_s=60.0):
    """Wait until processes have ended."""
    end = time.monotonic() + timeout_s
    while any(map(_runs, pids)):
        assert time.monotonic() < end, pids
        time.sleep(0.05)


def kill(pids):
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def stopped(pids, name, seconds):
    """Stop the one process of a name, and let it go on after a while."""
    [pid] = [pid for pid in pids
             if Path(f'/proc/{pid}/comm').read_text().strip() == name]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def _runs(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def test_killed_worker_killed_run_killed_cluster_and_then_the_same(held, tmp_path, monkeypatch):
    """One output lives through all three; Ray leaves nothing behind in the home."""
    monkeypatch.setenv('HOME', str(tmp_path))
    out, workers = tmp_path / 'out', ('--workers', '1')
    program = Program(held, out, *workers)
    program.wait(program.workers)
    [first] = program.workers()
    # Ray takes its time to start another one, and refuses all calls until then.
    with stopped(program.below(), 'gcs_server', 10.0):
        os.kill(first, signal.SIGKILL)
    program.wait(lambda: program.workers() - {first})  # another one is at work
    assert len(list(out.glob('recordings/*'))) < BAGS
    everybody, workers_then = program.below(), program.workers() - {first}
    program.process.kill()
    program.process.wait()
    gone(workers_then)  # by themselves
    kill(everybody)  # of Ray's own some take a minute

    before = program.pieces()
    program = Program(held, out, *workers)
    program.wait(lambda: program.pieces() > before and program.workers())
    kill(program.below())
    program.process.wait()
    assert len(list(out.glob('recordings/*'))) < BAGS

    code, said = Program(held, out, *workers).end()
    assert code == 1 and f'{BAGS} of {BAGS + 1} recordings are labelled' in said
    assert re.search(r'NOT WHOLE: \S+none.mcap: .*cannot be opened.*empty', said)
    assert 'a worker was lost' not in said.rpartition('NOT WHOLE')[2]
    assert digests(out) == digests(held / 'out')
    assert not list(tmp_path.glob('.ray*'))

    start = time.monotonic()
    code, said = Program(held, out, *workers).end()
    assert code == 1 and said.endswith('0 of them now\n')
    assert time.monotonic() - start < patience(60)
    assert digests(out) == digests(held / 'out')


@pytest.fixture(scope='module')
def cluster():
    """Start two nodes of one core each, with a token as a cluster should have one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('RAY_AUTH_MODE', 'token')
        patch.setenv('RAY_AUTH_TOKEN', secrets.token_hex(32))
        patch.setenv('RAY_USAGE_STATS_ENABLED', '0')
        from ray.cluster_utils import Cluster
        found = Cluster(initialize_head=True, head_node_args={
            'num_cpus': 1, 'include_dashboard': False, 'object_store_memory': 80 << 20})
        found.other = found.add_node(num_cpus=1, object_store_memory=80 << 20)
        yield found
        found.shutdown()


def test_two_nodes_make_the_same_as_one(held, cluster, tmp_path):
    program = Program(held, tmp_path / 'out', '--address', cluster.address)
    program.wait(lambda: len(program.workers()) == 2)
    cluster.remove_node(cluster.other, allow_graceful=False)
    code, said = program.end()
    assert code == 1 and f'{BAGS} of {BAGS + 1} recordings are labelled' in said
    assert 'a worker was lost' in said
    assert digests(tmp_path / 'out') == digests(held / 'out')
    assert len(rows(tmp_path / 'out')) == BAGS * FRAMES


def test_what_the_cluster_cannot_do_is_refused(held, cluster, tmp_path):
    tried = {
        'a': (['--address', cluster.address, '--workers', '9'], '--workers 9: there is room for'),
        'b': (['--address', cluster.address, '--backend', 'tensorrt'], 'no worker can run'),
        'c': (['--address', '127.0.0.1:1'], 'no Ray at --address 127.0.0.1:1')}
    programs = {name: Program(held, tmp_path / name, *arguments)
                for name, (arguments, _) in tried.items()}
    for name, program in programs.items():
        code, said = program.end()
        assert code == 2 and tried[name][1] in said
        assert not (tmp_path / name / 'pieces').exists()
