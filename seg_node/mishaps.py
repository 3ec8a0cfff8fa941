"""What goes wrong with one frame, for lack of memory or by a fault, refuses that frame only."""

import cv2

from .errors import brief, FrameError, place, SegNodeError


def mishaps(doing: str) -> '_Mishaps':
    """
    Return what turns whatever a ``with`` block runs into with one frame into its refusal.

    :param doing: what the block does with the frame, for the message: ``'decoding'``.
    :raises FrameError: reason ``'memory'`` where there is none left, ``'opencv'`` where OpenCV
        refuses its input, ``'internal'`` where this package has a fault.
    """
    return _Mishaps(doing)


class _Mishaps:
    """A block of one frame; no generator, as there are several for each."""

    __slots__ = ('_doing',)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        del trace  # it and the error's own would keep the frame's arrays as long as the refusal
        if isinstance(error, Exception) and not isinstance(error, SegNodeError):
            where = place(error)
            raise _refusal(self._doing, error.with_traceback(None), where) from None


def _refusal(doing: str, error: Exception, where: str) -> FrameError:
    if not isinstance(error, MemoryError | cv2.error):
        return FrameError('internal', f'{doing} this frame failed, a fault of seg_node itself: '
                          f'{brief(error)} ({where})')
    if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
        return FrameError('opencv', f'{doing} this frame failed in OpenCV: {error.err or error}')
    return FrameError('memory', f'there is not enough memory for {doing} this frame ({error}): '
                                'publish smaller pictures, or end what else uses the memory')
