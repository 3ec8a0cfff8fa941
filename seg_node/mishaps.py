"""What happens to one frame by chance, no memory for it, refuses that frame and no other."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from .errors import FrameError


@contextmanager
def mishaps(doing: str) -> Iterator[None]:
    """
    Turn what the block runs into with one frame into that frame's refusal.

    :param doing: what the block does with the frame, for the message: ``'decoding'``.
    :raises FrameError: reason ``'memory'`` where there is none left, ``'opencv'`` where OpenCV
        refuses its input.
    """
    try:
        yield
    except (MemoryError, cv2.error) as error:
        # A traceback would keep the frame's arrays alive for as long as the refusal is.
        raise _refusal(doing, error.with_traceback(None)) from None


def _refusal(doing: str, error: MemoryError | cv2.error) -> FrameError:
    if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
        return FrameError('opencv', f'{doing} this frame failed in OpenCV: {error.err or error}')
    return FrameError('memory', f'there is not enough memory for {doing} this frame ({error}): '
                                'publish smaller pictures, or end what else uses the memory')
