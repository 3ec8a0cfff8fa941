"""What goes wrong with one frame, for lack of memory or by a fault, refuses that frame only."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from .errors import brief, FrameError, place, SegNodeError


@contextmanager
def mishaps(doing: str) -> Iterator[None]:
    """
    Turn what the block runs into with one frame into that frame's refusal.

    :param doing: what the block does with the frame, for the message: ``'decoding'``.
    :raises FrameError: reason ``'memory'`` where there is none left, ``'opencv'`` where OpenCV
        refuses its input, ``'internal'`` where this package has a fault.
    """
    try:
        yield
    except SegNodeError:
        raise
    except Exception as error:
        where = place(error)
        # A traceback would keep the frame's arrays alive for as long as the refusal is.
        raise _refusal(doing, error.with_traceback(None), where) from None


def _refusal(doing: str, error: Exception, where: str) -> FrameError:
    if not isinstance(error, MemoryError | cv2.error):
        return FrameError('internal', f'{doing} this frame failed, a fault of seg_node itself: '
                          f'{brief(error)} ({where})')
    if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
        return FrameError('opencv', f'{doing} this frame failed in OpenCV: {error.err or error}')
    return FrameError('memory', f'there is not enough memory for {doing} this frame ({error}): '
                                'publish smaller pictures, or end what else uses the memory')
