"""The road a frame takes, from the parsed message to everything that is published about it."""

from collections.abc import Collection, Mapping, Sequence

from . import products
from .devices.segmenter import Result, Segmenter
from .ego_mask import EgoMask
from .errors import FrameError
from .frame import Demand, Frame, Products, StageClock
from .geometry import Size
from .model.taxonomy import ClassTable, remap_lut
from .trust.policy import Trust


class Pipeline:
    """
    Segments frames and derives the products.

    :param segmenter: the device's part: decode, fit, preprocess, infer, label.
    :param own: the model's class table.
    :param published: the class table of the published mask; remapped where it differs.
    :param output: size of the masks; None = each camera's own.
    :param ego_masks: by camera name, what of its image shows the vehicle itself.
    :param trust: judges each frame and withholds what is not to be believed; None: nobody does.
    """

    def __init__(self, segmenter: Segmenter, own: ClassTable, published: ClassTable | None = None,
                 output: Size | None = None,
                 ego_masks: Mapping[str, EgoMask] | None = None,
                 trust: Trust | None = None) -> None:
        self.segmenter = segmenter
        self.classes = published or own
        self.tables = products.Tables(
            remap=None if self.classes == own else remap_lut(own, self.classes),
            dynamic=own.dynamic_lut(), palette_bgr=self.classes.palette_bgr())
        self._output = output
        self._ego_masks = ego_masks or {}
        self.trust = trust

    def process(self, frames: Sequence[Frame], wanted: Sequence[Collection[str]],
                clock: StageClock) -> list[Products | FrameError]:
        """
        Return the products of each frame, or why it was refused, in their order.

        :param wanted: for each frame the names of ``products.OUTPUTS`` that somebody waits for.
        :raises BackendError: when the device fails.
        """
        judged = self.trust is not None
        demand = Demand(
            self._output, confidence=judged or any('confidence' in names for names in wanted),
            drivable=judged or any('drivable' in names for names in wanted))
        results = self.segmenter.segment(frames, demand, clock)
        if self._ego_masks or any(frame.rectification is not None for frame in frames):
            with clock.stage('ego_mask'):
                results = [self._only_seen(frame, result)
                           for frame, result in zip(frames, results, strict=True)]
        with clock.stage('trust'):
            standings = [None if self.trust is None or isinstance(result, FrameError)
                         else self.trust.examine(frame, result)
                         for frame, result in zip(frames, results, strict=True)]
        with clock.stage('products'):
            return [result if isinstance(result, FrameError)
                    else products.make(frame, result, self.tables, names, standing)
                    for frame, result, names, standing
                    in zip(frames, results, wanted, standings, strict=True)]

    def _only_seen(self, frame: Frame, result: Result) -> Result:
        """
        Return the result without the vehicle itself and what the rectified camera did not see.

        Or why that cannot be done.
        """
        if isinstance(result, FrameError):
            return result
        if frame.rectification is not None:
            unseen = frame.rectification.unseen(result.geometry.output)
            if unseen is not None:
                result.forget(unseen)
        mask = self._ego_masks.get(frame.camera)
        if mask is None:
            return result
        try:
            mask.apply(result)
        except FrameError as error:
            return error.with_traceback(None)  # it holds this very frame
        return result
