"""The newest-frame mailbox: one slot a camera, the newest frame wins, nothing is queued."""

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar('Item')


@dataclass
class _Slot(Generic[Item]):
    item: Item | None = None
    last_taken: int = 0


class Mailbox(Generic[Item]):
    """
    Hands the newest item of each camera from the receiving thread to the inference thread.

    :param names: the cameras.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._slots: dict[str, _Slot[Item]] = {name: _Slot() for name in names}
        self._changed = Condition()
        self._takes = self._full = 0
        self._closed = False

    def put(self, name: str, item: Item) -> Item | None:
        """Place the newest item of a camera; return the unread one it replaces, if any."""
        with self._changed:
            slot = self._slots[name]
            replaced, slot.item = slot.item, item
            self._full += replaced is None
            self._changed.notify()
        return replaced

    def take(self, limit: int | None = None, timeout_s: float | None = None) -> list[Item]:
        """
        Wait for items and take one of each ready camera, the longest unserved camera first.

        :param limit: the most items to take; None = all that are ready.
        :param timeout_s: how long to wait; None = for ever.
        :returns: at least one item, or an empty list once the mailbox is closed or the time is up.
        """
        with self._changed:
            if not (self._closed or self._full):  # nearly always: asked before a wait is built
                self._changed.wait_for(lambda: self._closed or self._full, timeout_s)
            if self._closed:
                return []
            ready = [slot for slot in self._slots.values() if slot.item is not None]
            if len(ready) > 1:
                ready.sort(key=lambda slot: slot.last_taken)
            return [self._empty(slot) for slot in ready[:limit]]

    def close(self) -> None:
        """Wake the taker for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drain(self) -> list[Item]:
        """Return the items that nobody took."""
        with self._changed:
            return [self._empty(slot) for slot in self._slots.values() if slot.item is not None]

    def _empty(self, slot: _Slot[Item]) -> Item:
        self._takes += 1
        self._full -= 1
        slot.last_taken = self._takes
        item, slot.item = slot.item, None
        assert item is not None
        return item
