"""When to record CUDA graphs, and when to go on without."""

from collections.abc import Callable

from ..errors import BackendError
from .graph import CudaError, Graph

# A capture that failed is tried again after so many batches, then after twice as many and so on;
# what fails so many times cannot be captured.
RETRY_AFTER, TRIES = 100, 5


class Captures:
    """
    The captures of one segmenter.

    :ivar problem: why the last one failed, '' while none has.
    """

    def __init__(self) -> None:
        self.problem = ''
        self._failed = 0
        self._wait = 0

    def due(self) -> bool:
        """Tell, once a batch that could be recorded, whether to try it."""
        if self._failed >= TRIES:
            return False
        if self._wait:
            self._wait -= 1
            return False
        return True

    def tried(self, capture: Callable[[], Graph]) -> Graph | None:
        """Return what ``capture`` does, None where it fails."""
        try:
            graph = capture()
        except (CudaError, BackendError) as error:
            self.problem = str(error).partition('. ')[0]
            self._wait = RETRY_AFTER << self._failed
            self._failed += 1
            return None
        self.problem = ''
        return graph
