"""
Two slots: while the GPU computes one call's frames, the next one's are copied and uploaded.

Each has what a call in flight needs for itself: a stream, marks, page-locked memory. The network's
own memory is there once, so the kernels of a slot wait for those of the other; its copies do not.
"""

from .driver import Gpu
from .graph import Event
from .resources import Pinned, Stream

SLOTS = 2


class Slot:
    """
    Room for one call in flight.

    :ivar computed: passed when the network's memory is free for the other slot.
    :ivar call: whose it is.
    :ivar batches: how many the call has launched and not waited for.
    """

    def __init__(self, gpu: Gpu, number: int) -> None:
        self._gpu = gpu
        self.number = number
        self.stream: Stream = gpu.stream()
        self.computed: Event = gpu.event(timed=False)
        self.images: Pinned | None = None
        self.results: Pinned | None = None
        self.call: object = None
        self.batches = 0
        self._marks: list[tuple[Event, ...]] = []

    def marks(self, place: int) -> tuple[Event, ...]:
        """Return the marks of a call's batch: begin, input ready, scores there, end."""
        while len(self._marks) <= place:
            self._marks.append(tuple(self._gpu.event() for _ in range(4)))
        return self._marks[place]

    def wait(self) -> None:
        """Wait until the call is done, if it has not been waited for."""
        if self.batches:
            self._gpu.wait(self._marks[self.batches - 1][-1])

    def give_up(self) -> None:
        """Forget the call, which is done or never will be."""
        self.call, self.batches = None, 0


class Slots:
    """Both slots, taken in turn."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._slots = [Slot(gpu, number) for number in range(SLOTS)]
        self._taken = 0

    def next(self) -> Slot:
        """Return the slot of the next call; what it held before is done with."""
        self._taken += 1
        slot = self._slots[self._taken % SLOTS]
        slot.wait()
        slot.give_up()
        return slot

    def other(self, slot: Slot) -> Slot:
        """Return the other one."""
        return self._slots[1 - slot.number]

    def wait(self) -> None:
        """Wait until nothing is in flight."""
        for slot in self._slots:
            slot.wait()

    def give_up(self) -> None:
        """Forget all calls in flight."""
        for slot in self._slots:
            slot.give_up()

    def fit(self, images: int, results: int) -> bool:
        """Tell whether the page-locked memory is large enough, in bytes."""
        return all(have is not None and size <= have.array.size for slot in self._slots
                   for size, have in ((images, slot.images), (results, slot.results)))

    def grow(self, images: int, results: int) -> None:
        """
        Make the page-locked memory of both larger; nothing may be in flight.

        Arrays of the old memory stay readable.
        """
        for slot in self._slots:
            sizes = [max(size, 0 if have is None else have.array.size) for size, have in
                     ((images, slot.images), (results, slot.results))]
            for old in (slot.images, slot.results):
                if old is not None:
                    self._gpu.free(old)
            slot.images = self._gpu.pin(sizes[0], 'images')
            slot.results = self._gpu.pin(sizes[1], 'results')
