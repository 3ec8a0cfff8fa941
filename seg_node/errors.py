"""Every error this package raises on purpose; each message names the value and the mend."""


class SegNodeError(Exception):
    """Base of all errors of this package."""


class ConfigError(SegNodeError):
    """
    A parameter, model card, class table or file is wrong.

    The message names the value, what is allowed and what to do.
    """


class BackendError(SegNodeError):
    """The inference backend could not be loaded or failed to run."""


class FrameError(SegNodeError):
    """
    One frame is refused; nothing is published for it.

    ``reason`` is a short stable word (``'encoding'``, ``'truncated'`` ...) by which refusals are
    counted in the diagnostics; the message says what was wrong with this frame.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
