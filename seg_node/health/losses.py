"""How many messages were lost on their way, by the numbers that their publishers gave them."""

from collections import OrderedDict

_MOST_PUBLISHERS = 16


class Losses:
    """
    Finds the gaps in the sequence numbers of each publisher of one topic.

    The first message of a publisher only tells where its numbers stand: what it sent before may
    have been before the two found each other.
    """

    def __init__(self) -> None:
        self._last: OrderedDict[bytes, int] = OrderedDict()
        self._reported = 0

    def on_message(self, publisher: bytes, number: int | None) -> int:
        """
        Return how many messages were lost before this one.

        :param publisher: what tells it from others; b'' where the middleware does not say (then
            all count as one, and lower numbers than before as its restart).
        :param number: its number for this message; None where the middleware gives none.
        """
        reported, self._reported = self._reported, 0
        if number is None:
            return reported
        last = self._last.pop(publisher, None)
        self._last[publisher] = number
        if len(self._last) > _MOST_PUBLISHERS:
            self._last.popitem(last=False)
        if last is None:
            return reported
        return max(0, number - last - 1)

    def on_reported(self, count: int) -> None:
        """
        Take the middleware's word that messages were lost.

        It counts for as long as no message comes whose number would tell: with large images and a
        wrong transport none ever does.
        """
        self._reported += count

    @property
    def reported(self) -> int:
        """How many the middleware has reported since the last message."""
        return self._reported
