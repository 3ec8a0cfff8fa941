"""Whether an NVIDIA GPU is there at all, whether or not anything can use it."""

import os
from pathlib import Path

from ..errors import BackendError
from ..gpu import trt

#: What the driver leaves where CUDA itself may be missing: in a container that was started
#: without the GPU, with a driver half installed; the last two on a Jetson.
_TRACES = ('proc/driver/nvidia/gpus/*', 'dev/nvidia[0-9]*', 'dev/nvhost-gpu', 'dev/nvgpu/igpu0')


def gpu_is_there(root: Path = Path('/')) -> bool:
    """
    Return whether this machine has an NVIDIA GPU, unless it is hidden on purpose.

    :param root: where the system's files are found.
    """
    if os.environ.get('CUDA_VISIBLE_DEVICES', '0') in ('', '-1', 'NoDevFiles'):
        return False
    try:
        if trt.find_gpu() is not None:
            return True
    except BackendError:  # there is one, though it does not answer
        return True
    return any(any(root.glob(pattern)) for pattern in _TRACES)
