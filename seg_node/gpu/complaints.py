"""What CUDA's errors mean to a user, and their mends."""

import re

AGAIN = ('Configure the node again; if that fails, start it anew. A GPU that keeps failing says '
         'why in the kernel log (dmesg, lines with NVRM or Xid)')
DRIVER = 'nvidia-smi must list the GPU; if it does not, install the NVIDIA driver'
MEMORY = ('Use a smaller max_batch or engine, or end what else uses the GPU (nvidia-smi lists '
          'it)')
KERNELS = ('The kernels were compiled for another GPU or a newer CUDA: build the engine again on '
           'this machine with python -m seg_node.tools.build_engine --force')
_RESTART = ('The driver gives this process the GPU no more: restart the process. A GPU that keeps '
            'failing says why in the kernel log (dmesg, lines with NVRM or Xid)')
# Errors after which the driver refuses this process for good, by number and by the driver's words.
_FOR_GOOD = re.compile(
    r'\b(?:error |\()(?:700|702|710|71[4-9])\b|illegal memory access|launch timed out|'
    r'device-side assert|hardware stack error|illegal instruction|misaligned address|'
    r'not supported on global/shared address space|invalid program counter|'
    r'unspecified launch failure')


def complaint(what: str, error: BaseException, mend: str) -> str:
    """
    Return what is said of an error.

    :param what: was being done.
    :param mend: of it, unless the driver refuses this process for good.
    """
    if _FOR_GOOD.search(str(error)):
        mend = _RESTART
    return f'GPU error while {what}: {str(error).strip(" -")}. {mend}.'


def newer_toolkit(toolkit: str, driver: str) -> str:
    """Return the mend where a toolkit's kernels are too new for the driver, '' if not."""
    if _release(toolkit) <= _release(driver):
        return ''
    return (f'The kernels were compiled by CUDA {toolkit}, the driver is made for CUDA {driver}: '
            f'install a newer driver, or a toolkit of at most CUDA {driver}, set CUDA_HOME to it '
            'and build the engine again with python -m seg_node.tools.build_engine --force')


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r'\d+', version))
