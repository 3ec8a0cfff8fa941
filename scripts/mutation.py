"""
Mutation testing of the spine with Cosmic Ray: which small mistakes would no test notice?

    make mutation [ARGS='geometry labels']

Works on a copy of the tree in .cache/mutation; an interrupted run goes on where it was, as long
as the module and its tests are the same. Prints each mutant that survived, and the score.

Left out are mutants that say nothing: replaced by an operator that nobody would mistype
(``+`` by ``**``), in annotations, in decorators (caching and compilation change no result).
"""

import argparse
from dataclasses import dataclass
import hashlib
import importlib
import os
from pathlib import Path
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

from cosmic_ray.work_db import use_db, WorkDB
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / '.cache' / 'mutation'
TREE = CACHE / 'tree'
LIMIT_S = 60.0  # for the tests of one module without a mutant
MEANT = re.compile(
    r'core/(ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_Mul|Pow_Mul)|'
    r'ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|'
    r'GtE_Gt|GtE_Lt|Is_IsNot|IsNot_Is)|'
    r'(?!ReplaceBinary|ReplaceComparison|RemoveDecorator|VariableReplacer|VariableInserter).*)$')
#: What every run of the tests imports; loaded once, before a mutant's tests are forked off.
PRELOADED = ('_hypothesis_pytestplugin', 'cv2', 'hypothesis', 'jsonschema', 'numba', 'numpy',
             'onnxruntime', 'pytest', 'pytest_timeout', 'xdist.plugin', 'yaml')
# Asks the process that holds all this to run the tests; its answer is the exit code.
CLIENT = ('import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);'
          ' sys.exit(int(s.recv(9) or 99))')


@dataclass(frozen=True)
class Target:
    """
    A module, or a folder of them, and what must notice its mutants.

    :ivar jit: False: run compiled functions as plain Python, which needs no compiler a mutant.
    :ivar options: further ones of pytest.
    """

    module: str
    tests: tuple[str, ...]
    jit: bool = True
    options: tuple[str, ...] = ()


TARGETS = {
    'geometry': Target('seg_node/geometry.py', ('test_geometry.py',)),
    'labels': Target('seg_node/labels.py', ('test_labels_small.py',), jit=False),
    'products': Target('seg_node/products.py', ('test_products.py',)),
    'mailbox': Target('seg_node/running/mailbox.py', ('test_mailbox.py',)),
    'health': Target('seg_node/health', ('test_health_small.py', 'test_health.py'),
                     options=('-k', 'not flicker')),  # two minutes of looks each
    'worker': Target('seg_node/running/worker.py', ('test_worker.py',)),
    'pipeline': Target('seg_node/pipeline.py', ('test_pipeline.py', 'test_retuning.py')),
    'policy': Target('seg_node/model/policy.py', ('test_policy.py',)),
}


def main() -> int:
    """Run Cosmic Ray on the modules named (default: all); return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='NAME', help=', '.join(TARGETS))
    parser.add_argument('--one', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.names) - set(TARGETS)
    if unknown:
        parser.error(f'{", ".join(unknown)} is unknown; allowed: {", ".join(TARGETS)}')
    if options.one:
        run(options.names[0])
        return 0
    copy_tree()
    for name in options.names or TARGETS:
        # A process a module: some run with, some without Numba's compiler.
        environment = {**os.environ, 'NUMBA_DISABLE_JIT': str(int(not TARGETS[name].jit))}
        done = subprocess.run([sys.executable, __file__, '--one', name], env=environment)
        if done.returncode:
            return done.returncode
    for name in options.names or TARGETS:
        report(name)
    return 0


def copy_tree() -> None:
    """Copy what git tracks or would track: mutants are written there, never here."""
    shutil.rmtree(TREE, ignore_errors=True)
    files = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
                           cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for file in filter(None, files.split('\0')):
        if (ROOT / file).is_file():
            (TREE / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, TREE / file)
    # Or the first run of the tests would compile for longer than it may take.
    subprocess.run([sys.executable, '-m', 'seg_node.tools.precompile'], cwd=TREE, check=True,
                   env={**os.environ, 'PYTHONPATH': str(TREE)}, stdout=subprocess.DEVNULL)


def database(name: str) -> Path:
    """Return where the results for this state of the module and its tests are kept."""
    target = TARGETS[name]
    top = ROOT / target.module
    state = hashlib.sha256()
    for path in sorted(top.glob('*.py')) if top.is_dir() else [top]:
        state.update(path.read_bytes())
    for test in target.tests:
        path = ROOT / 'test' / test
        state.update(path.read_bytes() if path.is_file() else test.encode())
    return CACHE / f'{name}_{state.hexdigest()[:12]}.sqlite'


def run(name: str) -> None:
    """Make the mutants of one module and try the tests on those that have no result yet."""
    target, results = TARGETS[name], database(name)
    for module in PRELOADED:
        importlib.import_module(module)
    start = time.monotonic()
    if code := run_tests(target, LIMIT_S):
        sys.exit(f'{name}: its tests fail (pytest exit code {code}) without any mutant')
    # A mutant that takes so much longer runs for ever.
    limit_s = min(LIMIT_S, 5 + 5 * (time.monotonic() - start))
    door = str(CACHE / f'{name}.socket')
    Path(door).unlink(missing_ok=True)
    command = f"'{sys.executable}' -S -E -c '{CLIENT}' '{door}'".replace('; ', ';')
    config = CACHE / f'{name}.toml'
    config.write_text(f'[cosmic-ray]\nmodule-path = "{target.module}"\n'
                      f'timeout = {LIMIT_S + 30}\n'
                      f'excluded-modules = []\ntest-command = """{command}"""\n'
                      '[cosmic-ray.distributor]\nname = "local"\n')
    tool = [Path(sys.executable).parent / 'cosmic-ray']
    if not results.exists():
        subprocess.run([*tool, 'init', config, results], cwd=TREE, check=True)
        leave_out(results)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(door)
        listener.listen()
        listener.settimeout(1)
        running = subprocess.Popen([*tool, 'exec', config, results], cwd=TREE)
        while running.poll() is None:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.sendall(str(run_tests(target, limit_s)).encode())
    if running.returncode:
        sys.exit(f'{name}: cosmic-ray ended with {running.returncode}')


def leave_out(results: Path) -> None:
    """Mark the mutants that say nothing as skipped."""
    with use_db(results, WorkDB.Mode.open) as work:
        for item in list(work.pending_work_items):
            mutation = item.mutations[0]
            lines = (TREE / mutation.module_path).read_text(encoding='utf-8').splitlines()
            in_decorator = lines[mutation.start_pos[0] - 1].lstrip().startswith('@')
            if in_decorator or not MEANT.match(mutation.operator_name):
                work.set_result(item.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))


def run_tests(target: Target, limit_s: float) -> int:
    """Run the tests in a fork of this process, which has all but the project loaded."""
    child = os.fork()
    if child == 0:
        in_child(target)
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return abs(os.waitstatus_to_exitcode(status))
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 98


def in_child(target: Target) -> None:
    """Run pytest on the copy of the tree, and end."""
    os.setsid()
    silence = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(silence, number)
    os.chdir(TREE)
    os.environ['PYTHONPATH'] = str(TREE)
    os.environ.pop('SEG_NODE_DATA', None)
    sys.path[0] = str(TREE)  # in place of this script's folder
    sys.dont_write_bytecode = True  # a cache would be taken for that of the next mutant
    code = 97
    try:
        import pytest
        tests = [str(TREE / 'test' / test) for test in target.tests]
        code = int(pytest.main([*tests, *target.options, '-x', '-q', '-p', 'no:cacheprovider',
                                '--hypothesis-seed=0']))
    finally:
        os._exit(code)


def report(name: str) -> None:
    """Print the survivors of a module, with what was changed, and its score."""
    with use_db(database(name), WorkDB.Mode.open) as work:
        results = dict(work.results)
        tried = {job: result for job, result in results.items()
                 if result.worker_outcome != WorkerOutcome.SKIPPED}
        alive = [result for result in tried.values()
                 if result.test_outcome == TestOutcome.SURVIVED]
    for result in alive:
        changed = [line for line in (result.diff or '').splitlines()
                   if re.match(r'@@|\+\+\+|[-+](?![-+])', line)]
        print('\n'.join(changed), '\n')
    killed = len(tried) - len(alive)
    print(f'{TARGETS[name].module}: {killed} of {len(tried)} mutants killed '
          f'({killed / max(len(tried), 1):.1%})\n', flush=True)


if __name__ == '__main__':
    sys.exit(main())
