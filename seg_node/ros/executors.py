"""
What turns the node's callbacks: the events executor where rclpy has one, else the wait set's.

The wait set is built anew, entity by entity, for every message; the events executor (Kilted and
later, experimental) is told of each by the middleware and costs half the time of a thread.
"""

from collections.abc import Callable, Mapping
from inspect import Signature, signature
from typing import Any

from rclpy.executors import SingleThreadedExecutor

from ..errors import ConfigError
from .parameter_table import EVENTS, EXECUTORS, WAITSET


def make_executor(name: str) -> Any:
    """
    Return an executor of one thread, to be turned by ``spin_once`` with a timeout.

    :param name: one of ``EXECUTORS``.
    :raises ConfigError: it is none of them, or this rclpy has no events executor.
    """
    if name not in EXECUTORS:
        raise ConfigError(f'parameter executor is {name!r}; allowed: {" | ".join(EXECUTORS)}')
    if name != WAITSET:
        try:
            from rclpy.experimental import EventsExecutor
        except ImportError:  # Jazzy and before
            if name == EVENTS:
                raise ConfigError('executor is events, which this rclpy does not have (Kilted '
                                  'and later do): set it to auto or waitset') from None
        else:
            return EventsExecutor()
    return SingleThreadedExecutor()


def told_apart(callback: Callable[[bytes, Mapping[str, Any]], None]) -> Callable[..., None]:
    """Return the same callback of a message and its info, for executors that hand both as one."""
    def call(*both: Any) -> None:
        message, info = both if len(both) == 2 else both[0]  # the events executor hands a tuple
        callback(message, info)

    call.__signature__ = signature(callback)  # type: ignore[attr-defined] # rclpy goes by it
    return call


def looked_up_once(callback: Callable[[], None]) -> Callable[[], None]:
    """Return the same callback of a timer; rclpy asks at each turn what parameters it takes."""
    def call() -> None:
        callback()

    call.__signature__ = Signature()  # type: ignore[attr-defined]
    return call
