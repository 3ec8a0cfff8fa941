"""Every error this package raises on purpose; each message names the value and the mend."""

from pathlib import Path

BACKEND = 'backend'  # the reason of a FrameError: the run of the network failed


class SegNodeError(Exception):
    """Base of all errors of this package."""


class ConfigError(SegNodeError):
    """
    A parameter, model card, class table or file is wrong.

    The message names the value, what is allowed and what to do.
    """


class BackendError(SegNodeError):
    """The inference backend could not be loaded or failed to run."""


class DeviceLostError(BackendError):
    """The device has failed for good: nothing that this process does brings it back."""


class FrameError(SegNodeError):
    """
    One frame is refused; nothing is published for it.

    ``reason`` is a short stable word (``'encoding'``, ``'truncated'`` ...) by which refusals are
    counted in the diagnostics; the message says what was wrong with this frame.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def brief(error: BaseException) -> str:
    """Return an error as one line; errors of other libraries with their type."""
    text = ' '.join(str(error).split())
    return text if isinstance(error, SegNodeError) else f'{type(error).__name__}: {text}'


def place(error: BaseException) -> str:
    """Return where an error came up, as ``file.py:line``."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return 'nowhere'
    return f'{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}'
