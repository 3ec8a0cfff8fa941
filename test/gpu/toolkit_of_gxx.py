"""
An nvcc whose machine code the simulated driver runs: it compiles by g++, through the shim.

``make`` writes it into a folder that CUDA_HOME may name. What it is asked for, and gives, is what
the real one is asked for by this package; which kernels a file has it reads from the file.
"""

import os
from pathlib import Path
import re
import subprocess
import sys

HERE = Path(__file__).resolve().parent


def make(folder, release='13.0'):
    """Return the folder of a toolkit that has nothing but this nvcc."""
    path = Path(folder, 'bin', 'nvcc')
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {release} "$@"\n')
    path.chmod(0o755)
    return Path(folder)


def compile_for_cpu(source, target):
    """Compile the kernels of a CUDA file; each that waits at a barrier in fibers."""
    sys.path.insert(0, str(HERE.parent))
    from gpu import cpu_kernels
    names = re.findall(r'__global__.*?\b(\w+)\(\w+Parameters', source.read_text())
    text = '\n'.join([f'#include "{cpu_kernels.SHIM.name}"', f'#include "{source}"', *(
        f'{"CPU_KERNEL_FIBERS" if name in cpu_kernels.TOGETHER else "CPU_KERNEL"}({name})'
        for name in names)])
    subprocess.run(['g++', *cpu_kernels.FLAGS, '-I', HERE, '-x', 'c++', '-', '-o', target],
                   input=text.encode(), check=True)


def main(release, *words):
    if '--version' in words:
        print(f'Cuda compilation tools, release {release}, V{release}.1')
    elif '--list-gpu-arch' in words:
        print('compute_80\ncompute_87')
    else:
        source, target = Path(words[-1]).resolve(), words[words.index('-o') + 1]
        kept = os.environ.get('KERNELS')
        if source.name == 'kernels.cu' and kept:
            Path(target).write_bytes(Path(kept).read_bytes())
        else:
            compile_for_cpu(source, target)


if __name__ == '__main__':
    main(*sys.argv[1:])
