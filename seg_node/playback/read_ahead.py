"""Reads and decodes the next records while the present one waits to be sent."""

from collections import deque
from collections.abc import Iterable, Iterator
from threading import Condition, Thread

from .sources import Record

_BYTES = 64 << 20
_RECORDS = 500


class ReadAhead:
    """
    The records of an iterator, fetched by a thread; a context manager.

    A slow disk or a frame that is hard to decode then does not delay what is ready. An error of
    the iterator is raised when the records before it are used up.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = records
        self._ready: deque[Record] = deque()
        self._bytes = 0
        self._changed = Condition()
        self._done = self._stopping = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name='read ahead', daemon=True)

    def __enter__(self) -> Iterator[Record]:
        self._thread.start()
        return iter(self._next, None)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def _next(self) -> Record | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._done)
            if self._ready:
                record = self._ready.popleft()
                self._bytes -= len(record.data)
                self._changed.notify_all()
                return record
        if self._error is not None:
            raise self._error
        return None

    def _run(self) -> None:
        try:
            for record in self._records:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping or self._has_room())
                    if self._stopping:
                        return
                    self._ready.append(record)
                    self._bytes += len(record.data)
                    self._changed.notify_all()
        except BaseException as error:  # raised again where the records are used
            self._error = error
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._bytes < _BYTES and len(self._ready) < _RECORDS
