#!/usr/bin/env python3
"""
Pack gpu_check for a machine without network: one archive with all that it needs there.

    python3 scripts/pack_gpu_check.py gpu_check.tar --python 3.12
    ... carry gpu_check.tar to the machine with the GPU, and there:
    tar xf gpu_check.tar && sh gpu_check/run.sh --without-network

That machine brings python3 with pip, CUDA 12 or 13 with nvcc (packages: docs/gpu.md) and g++; what
its Python has already, NumPy for instance, is used as it is. PyCUDA is compiled there. The report
is gpu_check/report.json.
"""

import argparse
from pathlib import Path
import subprocess
import sys
import tarfile
import tempfile

ROOT = Path(__file__).resolve().parents[1]
#: What is run, and what it reads. Models only on demand: the stand-in network needs none.
FILES = ('seg_node', 'drive', 'models/classes', 'scripts/install_pycuda.py', 'package.xml',
         'LICENSE')
SCHEMAS = 'models/*.json'
#: What PyCUDA needs, to be built and to run.
PYCUDA_NEEDS = ('setuptools', 'wheel', 'pytools', 'mako', 'platformdirs')
RUN = """#!/bin/sh
# Runs gpu_check here; what this machine's Python lacks comes from wheels/. Arguments go to it.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
export PYTHONPATH="$PWD/site:$PWD${PYTHONPATH:+:$PYTHONPATH}" SEG_NODE_CACHE="$PWD/cache"
mkdir -p cache
"$python" - <<'END'
# What is there already is not installed again: its versions belong together.
from importlib import metadata
from pathlib import Path
import re, subprocess, sys
def there(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
wheels = [path for path in Path('wheels').glob('*.whl')
          if there(re.sub(r'_', '-', path.name.split('-')[0])) is None]
if wheels:
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-index', '--no-deps',
                    '--target', 'site', *map(str, wheels)], check=True)
END
if ! "$python" -c 'import pycuda.driver' 2>/dev/null; then
    "$python" scripts/install_pycuda.py --wheel built --from wheels
    "$python" -m pip install --quiet --no-index --no-deps --upgrade --target site built/*.whl
fi
exec "$python" -m seg_node.tools.gpu_check --json report.json "$@"
"""


def listed(name):
    """Return the lines of a list of requirements that name a package."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def download(folder, python, machine, leave_out):
    """Fetch the wheels for a Python on a kind of machine, and PyCUDA's source."""
    pip = [sys.executable, '-m', 'pip', 'download', '--quiet', '-d', str(folder)]
    platforms = [word for number in range(17, 40)
                 for word in ('--platform', f'manylinux_2_{number}_{machine}')]
    wanted = [line for line in (*listed('runtime'), *listed('tools'), *PYCUDA_NEEDS)
              if line not in leave_out and line.split('>')[0] not in leave_out]
    subprocess.run([*pip, '--only-binary=:all:', '--python-version', python, '--implementation',
                    'cp', *platforms, '--platform', f'manylinux2014_{machine}', *wanted],
                   check=True)
    for path in folder.glob('*.whl'):  # needed by something that is needed
        if path.name.split('-')[0].replace('_', '-') in leave_out:
            path.unlink()
    from install_pycuda import VERSION
    subprocess.run([*pip, '--no-deps', '--no-binary', 'pycuda', f'pycuda=={VERSION}'], check=True)


def pack(target, wheels, models):
    """Write the archive: a folder gpu_check/ with everything."""
    def plain(entry):
        return None if '__pycache__' in entry.name else entry
    files = [*FILES, *(path.relative_to(ROOT) for path in ROOT.glob(SCHEMAS)),
             *(f'models/{name}' for name in models)]
    with tarfile.open(target, 'w') as archive, tempfile.TemporaryDirectory() as scratch:
        for name in files:
            archive.add(ROOT / name, f'gpu_check/{name}', filter=plain)
        archive.add(wheels, 'gpu_check/wheels')
        script = Path(scratch, 'run.sh')
        script.write_text(RUN, encoding='utf-8')
        script.chmod(0o755)
        archive.add(script, 'gpu_check/run.sh')


def main(args=None):
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    here = f'{sys.version_info[0]}.{sys.version_info[1]}'
    parser.add_argument('target', type=Path, help='the archive to write, .tar')
    parser.add_argument('--python', default=here, metavar='3.N',
                        help="that machine's Python (default: %(default)s)")
    parser.add_argument('--machine', default='x86_64', choices=('x86_64', 'aarch64'),
                        help='its processor (default: %(default)s)')
    parser.add_argument('--leave-out', action='append', metavar='PACKAGE',
                        default=['onnxruntime', 'rosbags'],
                        help='is there already (left out anyway: onnxruntime, which only a real '
                        'network is compared with, and rosbags)')
    parser.add_argument('--model', action='append', default=[], metavar='NAME',
                        help='a model to carry along, where TensorRT is installed there')
    parser.add_argument('--wheels', type=Path, help='take these, download nothing')
    options = parser.parse_args(args)
    with tempfile.TemporaryDirectory() as scratch:
        wheels = options.wheels
        if wheels is None:
            wheels = Path(scratch)
            download(wheels, options.python, options.machine, options.leave_out)
        pack(options.target, wheels, options.model)
    print(f'{options.target}: {options.target.stat().st_size / 2 ** 20:.0f} MiB')


if __name__ == '__main__':
    main()
