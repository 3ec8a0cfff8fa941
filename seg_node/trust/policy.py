"""What is done about a mask that is not to be believed."""

from dataclasses import dataclass, replace

import cv2

from ..errors import ConfigError
from ..frame import Frame, Segmentation
from ..model.card import ModelCard
from ..model.taxonomy import UNLABELLED
from .judge import Judge
from .reference import load_reference
from .verdict import Standing, State
from .watch import CameraWatch, Timing

PUBLISH, WITHHOLD = 'publish', 'withhold_drivable'
CHOICES = (WITHHOLD, PUBLISH)


@dataclass(frozen=True)
class Policy:
    """
    What to do with masks, by how far they are to be believed.

    Withheld is: all labels 255, nothing drivable, confidence 0.

    :ivar on_blind: a name in ``CHOICES``.
    :ivar on_doubtful: likewise.
    :ivar min_confidence: 0 to 1; pixels below it are 255 and not drivable. 0 = off.
    """

    on_blind: str = WITHHOLD
    on_doubtful: str = PUBLISH
    min_confidence: float = 0.0

    def check(self, card: ModelCard) -> None:
        """Raise ConfigError where a confidence is asked for that the model does not have."""
        if self.min_confidence and card.main_output.kind == 'labels':
            raise ConfigError(f'min_confidence is {self.min_confidence:g}, but {card.name} gives '
                              'class ids without a confidence: set it to 0, or export the model '
                              'with its logits.')

    def withholds(self, standing: Standing) -> bool:
        """
        Return whether a frame's mask is withheld.

        A frame that by itself is blind is, whatever the state over time: there is no reason to
        wait for a second one.
        """
        actions = {State.BLIND: self.on_blind, State.DOUBTFUL: self.on_doubtful}
        states = {standing.state}
        if standing.verdict.state == State.BLIND:
            states.add(State.BLIND)
        return any(actions.get(state) == WITHHOLD for state in states)


class Trust:
    """
    Judges the frames of all cameras of a model and acts on it; used by one thread.

    :raises ConfigError: the card's reference does not fit it, or the model has no confidence and
        one is asked for.
    """

    def __init__(self, card: ModelCard, policy: Policy | None = None,
                 timing: Timing | None = None) -> None:
        self.policy, self.timing = policy or Policy(), timing or Timing()
        self.policy.check(card)
        self.judge = Judge(card, load_reference(card))
        self._watches: dict[str, CameraWatch] = {}

    @property
    def needs_confidence(self) -> bool:
        """Whether all of the confidence must be there, not only what is judged by."""
        return self.policy.min_confidence > 0

    def examine(self, frame: Frame, segmentation: Segmentation) -> Standing:
        """
        Judge a frame, and take out of its segmentation what is not to be believed.

        :param segmentation: with the confidence, if the model has one; it is changed in place.
        """
        watch = self._watches.get(frame.camera)
        if watch is None:
            watch = self._watches[frame.camera] = CameraWatch(self.timing)
        standing = watch.follow(self.judge(frame, segmentation), frame.header.stamp_ns,
                                frame.received_ns / 1e9)
        if self.policy.withholds(standing):
            withhold(segmentation)
            return replace(standing, withheld=True)
        if self.policy.min_confidence:
            drop_unsure(segmentation, self.policy.min_confidence)
        return standing

    def retune(self, policy: Policy, timing: Timing) -> None:
        """Go by another policy and timing from the next frame on; no past is forgotten."""
        self.policy, self.timing = policy, timing
        for watch in self._watches.values():
            watch.timing = timing

    def restart(self) -> None:
        """Forget the past of all cameras."""
        self._watches.clear()


def withhold(segmentation: Segmentation) -> None:
    """Make everything unlabelled, not drivable and of confidence 0."""
    for image in segmentation.unknown_255:
        image.fill(UNLABELLED)
    for image in segmentation.unknown_0:
        image.fill(0)


def drop_unsure(segmentation: Segmentation, least: float) -> None:
    """Make pixels below a confidence (0 to 1) unlabelled and not drivable."""
    if segmentation.confidence is None:
        return
    unsure = cv2.compare(segmentation.confidence, least * 255, cv2.CMP_LT)
    cv2.bitwise_or(segmentation.labels, unsure, dst=segmentation.labels)
    if segmentation.drivable is not None:
        segmentation.drivable[unsure > 0] = 0


assert UNLABELLED == 255  # so that one OR writes the label
