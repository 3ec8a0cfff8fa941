"""What became of every frame that was sent, by the node's own diagnostics."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

DIAGNOSTICS = '/diagnostics'
_REFUSED, _STAGE = 'refused_', 'stage_'
#: The node publishes diagnostics by time: without any for so long, it is not there any more.
SILENCE_S = 30.0
#: Frames may be in hand for so long, or for so many times what one took on average.
PATIENCE_S, PATIENCE_FRAMES = 30.0, 20.0
#: After so many reports and seconds in which nothing changed, nothing more is on its way.
QUIET_REPORTS, QUIET_S = 5, 2.0


@dataclass
class Account:
    """
    The frames of one camera, by message: stamps may be missing or repeat.

    :ivar sent: by the player.
    :ivar received: by the node, and what became of these: segmented, dropped, refused.
    :ivar lost_in_transport: sent but never received.
    :ivar masks: that came back.
    :ivar refusals: how many for each reason.
    :ivar last_refusal: why, in the node's words.
    :ivar message: the camera's last status.
    """

    sent: int = 0
    received: int = 0
    segmented: int = 0
    dropped: int = 0
    refused: int = 0
    lost_in_transport: int = 0
    masks: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    last_refusal: str = ''
    message: str = ''

    @property
    def in_hand(self) -> int:
        """Received, and nothing known yet."""
        return self.received - self.segmented - self.dropped - self.refused

    @property
    def from_elsewhere(self) -> int:
        """Received but never sent."""
        return max(0, self.received - self.sent)

    @property
    def unaccounted(self) -> int:
        """Sent, and nobody knows what became of them."""
        return max(0, self.sent - self.segmented - self.dropped - self.refused
                   - self.lost_in_transport)


class Accounts:
    """
    Follows the node's diagnostics and says when there is nothing more to wait for.

    :param topics: the image topic of each camera, as it is played.
    :param masks: the mask topic of each camera.
    :param clock: the time in seconds as it passes for the node.
    :ivar parts: the figures of the last status of each part of the node, by the part's name.
    :ivar verdict: why the waiting ended: '' = every received frame is accounted for.
    """

    def __init__(self, topics: Mapping[str, str], masks: Mapping[str, str],
                 clock: Callable[[], float]) -> None:
        self._topics, self._masks, self._clock = topics, masks, clock
        self._lock = Lock()
        self._answers: Counter[str] = Counter()
        self._messages: dict[str, str] = {}
        self._spent_ms: dict[str, float] = {}  # the last that was told of each camera
        self._reports = 0  # since the counts changed
        self._heard_s = self._changed_s = self._clock()
        self._waiting = False
        self._stages: dict[tuple[str, str], list[float]] = {}
        self.parts: dict[str, dict[str, str]] = {}
        self.verdict = 'the playing ended early'

    def on_message(self, topic: str, data: bytes) -> None:
        """Take note of a message that came from the node."""
        if topic != DIAGNOSTICS:
            with self._lock:
                self._answers[topic] += 1
                self._changed()
            return
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.serialization import deserialize_message
        found = deserialize_message(data, DiagnosticArray).status
        with self._lock:
            before = self._counts()
            for status in found:
                node, _, part = status.name.rpartition(': ')
                if node == 'seg_node':
                    self.parts[part] = {pair.key: pair.value for pair in status.values}
                    self._messages[part] = status.message
                    self._heard_s = self._clock()
                    self._note_stages(part)
            if self._counts() != before:
                self._changed()
            elif any(status.name.startswith('seg_node: ') for status in found):
                self._reports += 1

    def settled(self, sent: Mapping[str, int]) -> bool:
        """
        Return whether there is nothing more to wait for; to be asked again and again.

        :param sent: how many frames were sent on each image topic.
        """
        with self._lock:
            now = self._clock()
            if not self._waiting:  # what was reported until now may be older than the last frame
                self._waiting = True
                self._heard_s = now
                self._changed()
            accounts = self._all(sent)
            in_hand = sum(account.in_hand for account in accounts.values())
            quiet = self._reports >= QUIET_REPORTS and now - self._changed_s > QUIET_S
            if not in_hand and (quiet or all(
                    account.received >= account.sent and account.masks >= account.segmented
                    for account in accounts.values())):
                self.verdict = ''
            elif now - self._heard_s > SILENCE_S:
                self.verdict = f'the node has said nothing for {SILENCE_S:g} s'
            elif in_hand and now - self._changed_s > self._patience_s():
                self.verdict = (f'{in_hand} frames were still in hand after '
                                f'{now - self._changed_s:.0f} s without any progress')
            else:
                return False
            return True

    def known(self, sent: Mapping[str, int]) -> bool:
        """Return whether the node has said of every frame sent what became of it."""
        with self._lock:
            return all(account.received >= account.sent and not account.in_hand
                       for account in self._all(sent).values())

    def of_cameras(self, sent: Mapping[str, int]) -> dict[str, Account]:
        """Return the account of each camera, by its name."""
        with self._lock:
            return self._all(sent)

    def stages_ms(self) -> dict[str, float]:
        """Return the median time of each stage over all reports, the slowest camera's."""
        with self._lock:
            found: dict[str, float] = {}
            for (_, stage), times in self._stages.items():
                found[stage] = max(found.get(stage, 0.0), round(float(np.median(times)), 2))
            return found

    def _note_stages(self, part: str) -> None:
        for key, value in self.parts[part].items():
            if key.startswith(_STAGE):
                name = key.removeprefix(_STAGE).removesuffix('_ms')
                self._stages.setdefault((part, name), []).append(float(value))
        spent = self.parts[part].get('processing_ms_p50')
        if spent:
            self._spent_ms[part] = float(spent)

    def _all(self, sent: Mapping[str, int]) -> dict[str, Account]:
        return {camera: self._account(camera, sent.get(topic, 0))
                for camera, topic in self._topics.items()}

    def _account(self, camera: str, sent: int) -> Account:
        values = self.parts.get(camera, {})
        account = Account(
            sent=sent, masks=self._answers[self._masks[camera]],
            message=self._messages.get(camera, ''), last_refusal=values.get('last_refusal', ''),
            refusals={key.removeprefix(_REFUSED): int(value) for key, value in values.items()
                      if key.startswith(_REFUSED) and value.isdecimal()},
            **{key: int(values.get(key, 0))
               for key in ('received', 'segmented', 'dropped', 'refused')})
        missing = max(0, sent - account.received)
        # As long as more may be on its way, only gaps in the numbers tell of losses.
        account.lost_in_transport = missing if not self.verdict else min(
            missing, int(values.get('lost', 0)))
        return account

    def _counts(self) -> list[tuple[str | None, ...]]:
        return [tuple(self.parts.get(camera, {}).get(key) for key in (
            'received', 'segmented', 'dropped', 'refused')) for camera in self._topics]

    def _changed(self) -> None:
        self._reports, self._changed_s = 0, self._clock()

    def _patience_s(self) -> float:
        return max(PATIENCE_S, PATIENCE_FRAMES * max(self._spent_ms.values(), default=0.0) / 1e3)
