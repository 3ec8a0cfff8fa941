"""The CUDA compiler: found, asked, obeyed; what it refuses comes with its own words."""

from pathlib import Path
import re

import pytest

from seg_node.engines import nvcc
from seg_node.errors import BackendError
from seg_node.gpu import kernels, launch
from seg_node.proving import stand_in

ORIN = (8, 7)


@pytest.fixture(scope='module')
def compiler():
    try:
        return nvcc.find_nvcc()
    except BackendError as error:
        pytest.skip(str(error))


def check(compiled, capability):
    """No kernel may spill or use a stack, and each is there; returns a table for the reader."""
    architecture = 'sm_{}{}'.format(*capability)
    assert compiled.cubin.startswith(b'\x7fELF')
    assert {(use.kernel, use.architecture) for use in compiled.usage} == {
        (name, architecture) for name in launch.KERNELS}
    for use in compiled.usage:
        assert (use.stack, use.spill_stores, use.spill_loads) == (0, 0, 0), use
        # 1024 threads of a multiprocessor at once, half of what it could hold or more
        assert use.registers <= 64, use
        assert use.shared <= 8192, use
    by_name = {use.kernel: use.registers for use in compiled.usage}
    return f'{architecture:8}' + ''.join(f'{by_name[name]:20}' for name in launch.KERNELS)


def test_compiles_for_orin(compiler, tmp_path):
    if ORIN not in nvcc.offered(compiler):
        pytest.skip(f'{compiler} does not know sm_87')
    compiled = nvcc.compile_kernels(ORIN)
    check(compiled, ORIN)
    assert nvcc.compile_cubin(ORIN, tmp_path / 'new') == compiled.cubin  # the same each time
    assert (tmp_path / 'new' / 'kernels.cubin').read_bytes() == compiled.cubin
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['kernels.cubin']


def test_the_stand_in_network_compiles(compiler):
    for capability in (nvcc.offered(compiler)[0], nvcc.offered(compiler)[-1]):
        [use] = nvcc.compile_source(stand_in.SOURCE, capability).usage
        assert (use.kernel, use.stack, use.spill_stores, use.spill_loads) == (
            stand_in.NAME, 0, 0, 0)


@pytest.mark.slow
def test_compiles_for_every_architecture(compiler, capsys):
    """Shows the registers of each kernel, none of which spills."""
    known = nvcc.offered(compiler)
    assert len(known) >= 5
    table = [check(nvcc.compile_kernels(capability), capability) for capability in known]
    with capsys.disabled():
        print('\nregisters, 0 spills and 0 stack everywhere\n'
              + ' ' * 8 + ''.join(f'{name:>20}' for name in launch.KERNELS), *table, sep='\n')


def test_an_unknown_architecture_is_refused_with_what_there_is(compiler):
    with pytest.raises(BackendError) as refusal:
        nvcc.compile_cubin((3, 0))
    text = str(refusal.value)
    assert 'compute capability 3.0' in text and str(compiler) in text
    assert all('{}.{}'.format(*known) in text for known in nvcc.offered(compiler))


def test_a_failure_comes_with_the_compilers_words(compiler, tmp_path, monkeypatch):
    broken = tmp_path / 'kernels.cu'
    broken.write_text(kernels.SOURCE.read_text().replace('kThreads = 256', 'kThreads = nonsense'))
    monkeypatch.setattr(kernels, 'SOURCE', broken)
    with pytest.raises(BackendError, match='nonsense') as refusal:
        nvcc.compile_cubin(nvcc.offered(compiler)[0])
    assert 'could not compile kernels.cu for sm_' in str(refusal.value)


def test_the_hash_is_of_source_and_flags(tmp_path, monkeypatch):
    first = kernels.source_hash()
    assert first == kernels.source_hash() and len(first) == 64
    changed = tmp_path / 'kernels.cu'
    changed.write_bytes(kernels.SOURCE.read_bytes() + b' ')
    monkeypatch.setattr(kernels, 'SOURCE', changed)
    second = kernels.source_hash()
    monkeypatch.setattr(kernels, 'NVCC_FLAGS', (*kernels.NVCC_FLAGS, '-G'))
    assert len({first, second, kernels.source_hash()}) == 3


def fake(folder, text='', status=0):
    """Write an nvcc that says this; returns its path."""
    path = Path(folder, 'bin', 'nvcc')
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\necho "{text}"\nexit {status}\n')
    path.chmod(0o755)
    return path


def test_where_it_is_looked_for(tmp_path, monkeypatch):
    home, path, on_path = (fake(tmp_path / name) for name in ('home', 'path', 'on_path'))
    monkeypatch.setenv('CUDA_HOME', str(home.parents[1]))
    monkeypatch.setenv('CUDA_PATH', str(path.parents[1]))
    monkeypatch.setenv('PATH', str(on_path.parent))
    assert nvcc.find_nvcc() == home
    home.chmod(0o644)  # there, but not to be run
    assert nvcc.find_nvcc() == path
    monkeypatch.delenv('CUDA_PATH')
    assert nvcc.find_nvcc() == on_path


def test_none_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(nvcc, '_USUAL', tmp_path / 'nvcc')
    monkeypatch.setattr(nvcc.sysconfig, 'get_path', lambda name: str(tmp_path / name))
    for name in ('CUDA_HOME', 'CUDA_PATH', 'PATH'):
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(BackendError, match='install the CUDA toolkit'):
        nvcc.find_nvcc()


def test_the_toolkit_that_pip_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(nvcc, '_USUAL', tmp_path / 'nvcc')
    monkeypatch.setattr(nvcc.sysconfig, 'get_path', lambda name: str(tmp_path / name))
    for name in ('CUDA_HOME', 'CUDA_PATH', 'PATH'):
        monkeypatch.setenv(name, str(tmp_path))
    by_pip = fake(tmp_path / 'purelib' / 'nvidia' / 'cu13')
    assert nvcc.find_nvcc() == by_pip


def test_a_compiler_that_fails_or_cannot_run(tmp_path, monkeypatch):
    with pytest.raises(BackendError, match='exit status 3.*\n.*no licence'):
        nvcc.offered(fake(tmp_path / 'one', 'no licence', 3))
    with pytest.raises(BackendError, match='exit status 1.*\n.*said nothing'):
        nvcc.offered(fake(tmp_path / 'two', '', 1))
    script = fake(tmp_path / 'three')
    script.write_text('no program')
    with pytest.raises(BackendError, match='cannot be run'):
        nvcc.offered(script)


def test_resource_usage():
    text = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'one' for 'sm_120'
ptxas info    : Function properties for one
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 22 registers, used 1 barriers, 8192 bytes smem, 376 bytes cmem[0]
ptxas info    : Compiling entry function 'two' for 'sm_87'
ptxas info    : Function properties for two
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, 496 bytes cmem[0]
"""
    assert nvcc.resource_usage(text) == [nvcc.Usage('one', 'sm_120', 22, 16, 8, 12, 8192),
                                         nvcc.Usage('two', 'sm_87', 255, 0, 0, 0, 0)]
    assert nvcc.resource_usage('nvcc warning : none of it') == []
    with pytest.raises(BackendError, match='kernel two (.|\n)*Used many'):
        nvcc.resource_usage(text.replace('Used 255', 'Used many'))


def test_new_words_of_ptxas_cost_no_cubin(tmp_path, monkeypatch):
    script = fake(tmp_path)
    script.write_text("""#!/bin/sh
case "$*" in
*--list-gpu-arch*) echo compute_87 ;;
*) for word; do [ "$before" = -o ] && printf cubin >"$word"; before=$word; done
   echo "ptxas info : Compiling entry function 'one' for 'sm_87'"
   echo "ptxas info : says it in another way" ;;
esac
""")
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    assert nvcc.compile_kernels((8, 7)) == nvcc.Compiled(b'cubin', ())


def test_the_version_of_the_toolkit(tmp_path, compiler):
    said = 'Cuda compilation tools, release 12.6, V12.6.85'
    assert nvcc.release(fake(tmp_path / 'one', said)) == '12.6'
    with pytest.raises(BackendError, match='does not tell its version: other words'):
        nvcc.release(fake(tmp_path / 'two', 'other words'))
    assert re.fullmatch(r'\d+\.\d+', nvcc.release(compiler))
