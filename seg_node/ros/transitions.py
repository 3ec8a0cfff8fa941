"""What every lifecycle transition needs: no exception passes in silence."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from ..errors import brief, place, SegNodeError

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


def telling(otherwise: TransitionCallbackReturn) -> Callable[[Transition], Transition]:
    """
    Make a transition callback tell ``self.failed(...)`` of every exception.

    rclpy swallows them without a word.

    :param otherwise: what the callback returns then.
    """
    def decorate(callback: Transition) -> Transition:
        @wraps(callback)
        def told(self: Any, state: LifecycleState) -> TransitionCallbackReturn:
            name = callback.__name__.removeprefix('on_')
            try:
                return callback(self, state)
            except SegNodeError as error:
                self.failed(f'{name} failed: {error}')
            except Exception as error:
                self.failed(f'{name} failed: {brief(error)} ({place(error)})')
            return otherwise
        return told
    return decorate
