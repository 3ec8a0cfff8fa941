"""What may change between two frames: which classes count, thresholds, overlay, filters."""

from dataclasses import dataclass

import numpy as np

from .errors import ConfigError
from .model.card import ModelCard
from .model.policy import DrivablePolicy
from .trust.policy import Policy
from .trust.watch import Timing


@dataclass(frozen=True)
class Tuning:
    """
    The wishes, as the user puts them.

    :ivar drivable: the classes of the labels that are drivable; None = as the card says.
    :ivar dynamic: likewise those that move by themselves.
    :ivar withholding: what is done about masks that are not to be believed.
    :ivar timing: how long something must last to change a camera's state.
    :ivar overlay_alpha: 0 = image only, 1 = colours only.
    :ivar steady: names of the cameras whose labels are steadied.
    """

    drivable: tuple[str, ...] | None = None
    dynamic: tuple[str, ...] | None = None
    withholding: Policy = Policy()
    timing: Timing = Timing()
    overlay_alpha: float = 0.5
    steady: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Tuned:
    """
    The same, checked against a model.

    :ivar dynamic: (256,) uint8, 255 for the model's classes that move by themselves.
    """

    wishes: Tuning
    policy: DrivablePolicy
    dynamic: np.ndarray

    @classmethod
    def check(cls, card: ModelCard, wishes: Tuning) -> 'Tuned':
        """
        Check all of it together.

        :raises ConfigError: a class that the model does not have, or what it cannot do.
        """
        wishes.withholding.check(card)
        if wishes.steady and card.main_output.kind == 'labels':
            raise ConfigError(f'parameter {min(wishes.steady)}.steadiness is true, but '
                              f'{card.name} gives class ids without a confidence: set it to '
                              'false, or export the model with its logits')
        return cls(wishes, DrivablePolicy(card, wishes.drivable),
                   card.main_output.classes.dynamic_lut(wishes.dynamic))
