"""The last seconds of a stream: long enough to judge by, short enough to notice a change."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile
from operator import itemgetter
from typing import Generic, TypeVar

Item = TypeVar('Item')

#: What a stream is judged by: with a look every 0.1 s a fault shows and clears within a second.
RECENT_S = 0.7
#: ... but at least so many items, which is what a camera of 1 Hz is judged by.
LEAST = 3
#: What the figures (rates, percentiles) are taken over.
FIGURES_S = 5.0
# What is usual is taken anew after so long, and of so few items at each look.
_USUAL_S, _FEW = 0.5, 30


class Window(Generic[Item]):
    """
    Keeps the items of the last ``FIGURES_S``, and always the last ``LEAST``.

    :param clock: the time in seconds; only differences count.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._items: deque[tuple[float, Item]] = deque()

    def add(self, item: Item) -> None:
        """Append an item that came now; forget those that are too old."""
        now = self._clock()
        items = self._items
        items.append((now, item))
        while len(items) > LEAST and items[0][0] < now - FIGURES_S:
            items.popleft()

    def clear(self) -> None:
        """Forget all."""
        self._items.clear()

    def copy(self) -> 'View[Item]':
        """Return what it holds now, to be looked at in peace."""
        return View(self._clock(), tuple(self._items))


class View(Generic[Item]):
    """What a window held at one moment (``now``, in seconds of its clock)."""

    def __init__(self, now: float, items: tuple[tuple[float, Item], ...]) -> None:
        self.now = now
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def last(self, seconds: float) -> list[Item]:
        """Return the items of the last seconds, and at least the last ``LEAST``."""
        return [item for _, item in self._last(seconds)]

    def ends(self, seconds: float) -> tuple[Item, Item, int] | None:
        """Return the first and the last of ``last(seconds)``, and how many they are."""
        items = self._last(seconds)
        return (items[0][1], items[-1][1], len(items)) if items else None

    def since(self, moment: float) -> int:
        """Return how many came at or after a moment."""
        newest_first = reversed(self._items)
        return sum(1 for _ in takewhile(lambda item: item[0] >= moment, newest_first))

    def start(self, seconds: float) -> float:
        """Return when the first of ``last(seconds)`` came; now, if there is none."""
        items = self._last(seconds)
        return items[0][0] if items else self.now

    @property
    def age_s(self) -> float | None:
        """How long ago the last one came."""
        return self.now - self._items[-1][0] if self._items else None

    def interval_s(self, seconds: float) -> float | None:
        """Return the median time between two items; None before the second one."""
        times = [time_s for time_s, _ in self._last(seconds)]
        return median([after - before for before, after in zip(times, times[1:], strict=False)])

    def rate_hz(self, seconds: float) -> float | None:
        """
        Return the rate of the last seconds; None before the second item.

        0 once the stream has stalled: nothing for ``RECENT_S`` and for three intervals.
        """
        if len(self._items) < 2:
            return None
        times = [time_s for time_s, _ in self._last(seconds)]
        mean_s = (times[-1] - times[0]) / (len(times) - 1)
        if self.now - times[-1] > max(RECENT_S, LEAST * mean_s):
            return 0.0
        return 1 / max(mean_s, 1e-6)

    def _last(self, seconds: float) -> tuple[tuple[float, Item], ...]:
        first = bisect_left(self._items, self.now - seconds, key=itemgetter(0))
        return self._items[min(first, max(0, len(self._items) - LEAST)):]


class Usual(Generic[Item]):
    """
    What is usual over the figures' time: looked through anew twice a second, not ten times.

    Each item is an object of its own, and between two looks none is left in the processor's cache.

    :param of: takes it of what a window holds.
    """

    def __init__(self, of: Callable[[View[Item]], float | None]) -> None:
        self._of = of
        self._taken: float | None = None
        self._value: float | None = None

    def __call__(self, view: View[Item]) -> float | None:
        """Return it; of few items it is always taken anew."""
        if self._taken is None or len(view) < _FEW or view.now - self._taken >= _USUAL_S:
            self._taken, self._value = view.now, self._of(view)
        return self._value


def median(values: list[float]) -> float | None:
    """Return the middle value (the upper of two), None of none; numpy's takes far longer."""
    return sorted(values)[len(values) // 2] if values else None


def percentiles(values: Collection[float], percents: Sequence[float]) -> list[float]:
    """Return percentiles, between two values by the line; numpy's take far longer."""
    ordered, found = sorted(values), []
    for percent in percents:
        place = (len(ordered) - 1) * percent / 100
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        found.append(ordered[low] + (ordered[high] - ordered[low]) * (place - low))
    return found
