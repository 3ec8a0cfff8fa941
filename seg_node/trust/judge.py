"""
The judgement of one frame, without regard to any other.

Two questions: does the picture show anything (blind, if not), and is the mask one that this model
makes of pictures it understands (doubtful, if not)? The first needs nothing but the picture; the
second needs the card's reference.
"""

from ..frame import Frame, Glimpse, Segmentation
from ..model.card import ModelCard
from ..model.policy import DrivablePolicy
from .evidence import certainty_at, Evidence, measure, places
from .reference import Reference, TERMS
from .verdict import State, Verdict

COVERED = 0.97  # share of the picture without structure from which on it shows nothing
BLIND_WIDTH = 0.25  # share of the width without structure from the bottom to the middle
NO_ROWS_ALIKE = 0.08  # mean correlation of neighbouring rows below which it is noise
TORN = -0.043  # correlation of the fifth worst rows of clear contrast; CamVid train: above -0.036
TORN_ACROSS = 0.62  # share of the width that jumps at once; whole pictures: up to 0.50
BLACK, WHITE = 16, 239


class Judge:
    """
    Judges the frames of one model.

    :param card: the model.
    :param reference: what is usual for it; None = only the pictures are judged.
    :ivar missing: what is not judged, and why; '' if nothing.
    """

    def __init__(self, card: ModelCard, reference: Reference | None) -> None:
        self._reference = reference
        # The reference is about the card's drivable area, whatever the user calls drivable.
        own = DrivablePolicy(card)
        self._lut = own.lut if own.output == card.main_output else None
        #: Where it looks at the confidence: ``measure`` does inside the drivable area alone.
        self.glimpse = Glimpse(places, self._lut)
        self._certainty = certainty_at(card.main_output.temperature)
        self.missing = '' if reference else (
            f'{card.name} has no reference in its card: implausible masks are not told. Make one '
            f'with python -m seg_node.tools.reference --model {card.directory} --images FOLDER')

    @property
    def needs_drivable(self) -> bool:
        """Whether the drivable area must be there: the labels do not tell it."""
        return self._lut is None

    def __call__(self, frame: Frame, segmentation: Segmentation) -> Verdict:
        """
        Judge a frame by itself.

        :param segmentation: with the confidence, if the model has one, and with the drivable area
            if the model has a head of its own for it.
        """
        return weigh(self.look(frame, segmentation), self._reference)

    def look(self, frame: Frame, segmentation: Segmentation) -> Evidence:
        """Return what there is to judge a frame by."""
        area = segmentation.drivable if self._lut is None else self._lut
        assert area is not None
        return measure(frame.grey, segmentation.labels, area, segmentation.confidence,
                       self._certainty, segmentation.glimpse)


def weigh(evidence: Evidence, reference: Reference | None) -> Verdict:
    """Return the verdict on what was measured."""
    figures = evidence.figures if reference is None else reference.figures(evidence)
    if reason := _shows_nothing(figures):
        return Verdict(State.BLIND, reason, figures, evidence)
    if figures['row_break'] < TORN:
        return Verdict(State.DOUBTFUL, 'rows of the picture do not fit one another '
                       f'({figures["row_break"]:.3f}, at least {TORN:.3f} in a whole one): lost '
                       'lines? Check the cable and the driver', figures, evidence)
    if figures['torn_across'] > TORN_ACROSS:
        return Verdict(State.DOUBTFUL, f'{figures["torn_across"]:.0%} of the width jumps from one '
                       'row to the next (in a whole picture at most half): is it put '
                       'together of two, or are its lines shifted? Check the cable and the '
                       'driver', figures, evidence)
    if reference is None:
        return Verdict(State.OK, '', figures, evidence)
    parts = reference.parts(figures)
    total = reference.bias + sum(parts.values())
    figures = figures | {'doubt': total}
    if total <= 0:
        return Verdict(State.OK, '', figures, evidence)
    return Verdict(State.DOUBTFUL, _unusual(parts, figures, reference), figures, evidence)


def _shows_nothing(figures: dict[str, float]) -> str:
    """Return why a picture shows nothing, '' if it does."""
    light = figures['brightness']
    shade = 'black' if light < BLACK else 'white' if light > WHITE else 'one even tone'
    if figures['flat'] >= COVERED:
        return f'the picture is {shade}: is the lens covered, the exposure right?'
    if figures['blind_width'] >= BLIND_WIDTH:
        return (f'over {figures["blind_width"]:.0%} of its width the picture shows nothing from '
                'the bottom to the middle: is the lens covered in part?')
    if figures['row_likeness'] < NO_ROWS_ALIKE:
        return (f'the picture is noise (neighbouring rows correlate by '
                f'{figures["row_likeness"]:.2f}): is the encoding right, the cable sound?')
    return ''


def _unusual(parts: dict[str, float], figures: dict[str, float], reference: Reference) -> str:
    """Say what speaks most against a mask."""
    against = sorted((name for name in parts if parts[name] > 0), key=lambda name: -parts[name])
    said = []
    for name in against[:2]:
        low, high = reference.usual[name]
        said.append(f'{TERMS[name].about} {figures[name]:.3f}, usually {low:.3f} to {high:.3f}')
    return 'the mask is implausible: ' + '; '.join(said)
