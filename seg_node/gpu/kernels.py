"""The CUDA kernels' source, and what identifies it; compiling it is the factory's work."""

import hashlib
from pathlib import Path

SOURCE = Path(__file__).with_name('kernels.cu')
#: What nvcc is called with; a part of what the kernels are.
NVCC_FLAGS = ('-std=c++17', '-O3', '--cubin', '-Xptxas', '-v')


def source_hash() -> str:
    """Return what identifies the kernels: a sha256 over their source and nvcc's flags."""
    return hashlib.sha256(SOURCE.read_bytes() + ' '.join(NVCC_FLAGS).encode()).hexdigest()
