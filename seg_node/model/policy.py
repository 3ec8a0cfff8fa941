"""Which pixels are drivable: the one owner of that decision."""

from collections.abc import Sequence

import numpy as np

from .card import ModelCard
from .tensors import OutputSpec


class DrivablePolicy:
    """
    What makes a pixel drivable: one output of the network, and the classes of it that count.

    A model's own drivable-area head decides, or else the flags of its class table; names that the
    user gives are classes of the labels and overrule both. A class nobody listed is never
    drivable.

    :param names: classes of the labels that are drivable; None = as the card says.
    :ivar output: the output whose class ids are looked up.
    :ivar lut: (256,) uint8, 255 for the ids that are drivable, 0 for all else.
    :raises ConfigError: a name is no class of the labels.
    """

    output: OutputSpec
    lut: np.ndarray

    def __init__(self, card: ModelCard, names: Sequence[str] | None = None) -> None:
        if names is None:
            self.output = card.drivable_output or card.main_output
        else:
            self.output = card.main_output
        self.lut = self.output.classes.drivable_lut(names)
        #: whether a head of its own tells more than drivable or not
        self.has_classes = self.output is not card.main_output and len(self.output.classes) > 2
