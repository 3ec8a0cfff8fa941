"""Inside a process on the simulated driver: its controls, and what is refused."""

import ctypes

from seg_node.errors import BackendError


class Simulator:
    """The controls of the simulated driver, see cudasim.cpp."""

    def __init__(self):
        self.library = ctypes.CDLL('libcuda.so.1')
        self.library.cudasim_report.restype = ctypes.c_size_t
        self.library.cudasim_intervals.restype = ctypes.c_size_t

    def cost(self, kernel, us):
        """Say what each run of a kernel takes, on the simulated clock."""
        self.library.cudasim_cost(kernel.encode(), ctypes.c_double(us))

    def spend(self, kind, us):
        """Let the host be at something for a while, on the simulated clock."""
        self.library.cudasim_spend(kind.encode(), ctypes.c_double(us))

    def intervals(self):
        """Return (kind, begin, end) of all that was done since the reset, in us."""
        text = ctypes.create_string_buffer(self.library.cudasim_intervals(None, 0) + 4096)
        self.library.cudasim_intervals(text, len(text))
        return [(kind, float(begin), float(end)) for kind, begin, end in
                (line.split('\t') for line in text.value.decode().splitlines())]

    def reset(self):
        self.library.cudasim_reset()

    def fail(self, name, first=1, last=None, code=719, for_good=False):
        self.library.cudasim_fail(name.encode(), first, last or first, code, int(for_good))

    def counts(self):
        """Return every count by its name; what never happened is missing."""
        text = ctypes.create_string_buffer(self.library.cudasim_report(None, 0) + 4096)
        self.library.cudasim_report(text, len(text))
        return {name: int(count) for name, count in
                (line.split('\t') for line in text.value.decode().splitlines())}


def refused(call, *words):
    """Return what a BackendError says, after the check that it is one and has these words."""
    try:
        call()
    except BackendError as error:
        assert all(word in str(error) for word in words), str(error)
        return str(error)
    raise AssertionError('no BackendError')
