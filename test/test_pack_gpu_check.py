"""scripts/pack_gpu_check.py: the archive holds all that gpu_check needs where no network is."""

from pathlib import Path
import subprocess
import sys
import tarfile

from gpu import simulated
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / 'scripts' / 'pack_gpu_check.py'


@pytest.fixture(scope='module')
def carried(tmp_path_factory):
    """Return the folder that was unpacked elsewhere; its wheels hold one package of ours."""
    folder = tmp_path_factory.mktemp('carried')
    (folder / 'wheels').mkdir()
    package = folder / 'new_here-1.0-py3-none-any.whl'
    subprocess.run([sys.executable, '-c', f"""
import zipfile
with zipfile.ZipFile({str(folder / 'wheels' / package.name)!r}, 'w') as archive:
    archive.writestr('new_here.py', '')
    for name, text in {{'METADATA': 'Metadata-Version: 2.1\\nName: new-here\\nVersion: 1.0\\n',
                       'WHEEL': 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n'
                                'Tag: py3-none-any\\n', 'RECORD': ''}}.items():
        archive.writestr('new_here-1.0.dist-info/' + name, text)
"""], check=True)
    done = subprocess.run([sys.executable, SCRIPT, folder / 'all.tar', '--wheels',
                           folder / 'wheels'], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with tarfile.open(folder / 'all.tar') as archive:
        archive.extractall(folder, filter='data')
    return folder / 'gpu_check'


def test_what_is_missing_is_installed_and_gpu_check_runs(carried):
    environment = simulated.environment(PYTHON=sys.executable)
    environment['PYTHONPATH'] = ':'.join(
        path for path in environment['PYTHONPATH'].split(':')
        if Path(path) not in (simulated.ROOT, simulated.HERE.parent))
    for _ in range(2):  # the second time it is there
        done = subprocess.run(['sh', carried / 'run.sh', '--help'], env=environment, timeout=120,
                              capture_output=True, text=True)
        assert done.returncode == 0 and 'usage: gpu_check' in done.stdout, done.stderr
    assert (carried / 'site' / 'new_here.py').exists()
    assert not (carried / 'built').exists()  # PyCUDA is there


def test_the_files_that_it_reads_are_in_it(carried):
    code = """
import seg_node
from seg_node.engines import nvcc
from seg_node.geometry import Size
from seg_node.gpu import kernels
from seg_node.proving import stand_in
from seg_node.tools import gpu_check
assert seg_node.__file__.startswith(sys.argv[1]), seg_node.__file__
model = stand_in.card()
assert len(gpu_check.street(Size(90, 160), 2)) == 2
stand_in.frame(model.input, Size(90, 160), 0)
assert stand_in.SOURCE.exists() and kernels.SOURCE.exists()
"""
    done = subprocess.run([sys.executable, '-c', f'import sys\n{code}', carried], cwd=carried,
                          env={'PATH': '/usr/bin:/bin', 'PYTHONPATH': str(carried)},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
