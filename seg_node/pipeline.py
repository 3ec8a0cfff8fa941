"""The road a frame takes, from the parsed message to everything that is published about it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from . import products
from .devices.segmenter import Result, Running, Segmenter, starter
from .ego_mask import EgoMask
from .errors import ConfigError, FrameError
from .frame import Demand, DRIVABLE_CLASS, Frame, Products, Segmentation, StageClock
from .geometry import Size
from .mishaps import mishaps
from .model.taxonomy import ClassTable, load_taxonomy, remap_lut, UNLABELLED
from .steadiness import Steadiness
from .trust.policy import Trust
from .trust.verdict import Standing, State
from .tuning import Tuned

_AUTOWARE = 'autoware16'


def autoware_lut(own: ClassTable, remap: Path | None = None) -> np.ndarray | None:
    """
    Return the (256,) uint8 table to Autoware's ids, unlabelled = UNKNOWN; None: no remap.

    :param remap: the card's own remap; None = the shipped one.
    """
    target = load_taxonomy(_AUTOWARE)
    try:
        lut = remap_lut(own, target, remap)
    except ConfigError:
        return None
    lut[lut == UNLABELLED] = target.id_of('UNKNOWN', _AUTOWARE)
    return lut


class Batch:
    """
    Frames on their way through the pipeline.

    :ivar due: see ``Running``.
    """

    def __init__(self, running: Running,
                 make: Callable[[list[Result]], list[Products | FrameError]]) -> None:
        self._work: Callable[[], list[Products | FrameError]] | None = (
            lambda: make(running.results()))
        self._made: list[Products | FrameError] = []
        self._failure: Exception | None = None
        self.due = running.due

    def settle(self) -> None:
        """Wait for the device and make everything now; ``finish`` then only hands it out."""
        work, self._work = self._work, None
        if work is None:
            return
        try:
            self._made = work()
        except Exception as error:  # told by ``finish``; its traceback would hold all of this
            self._failure = error.with_traceback(None)

    def finish(self) -> list[Products | FrameError]:
        """
        Return what ``Pipeline.process`` does, once the device is done; to be called once.

        :raises DeviceLostError: when the device has failed for good.
        """
        work, self._work = self._work, None
        if work is not None:
            return work()
        made, failure = self._made, self._failure
        self._made, self._failure = [], None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # or it and its traceback hold one another
        return made


class Pipeline:
    """
    Segments frames and derives the products.

    :param segmenter: the device's part: decode, fit, preprocess, infer, label.
    :param own: the model's class table.
    :param published: the class table of the published mask; remapped where it differs.
    :param output: size of the masks; None = each camera's own.
    :param ego_masks: by camera name, what of its image shows the vehicle itself.
    :param trust: judges each frame and withholds what is not to be believed; None: nobody does.
    :param steady: names of the cameras whose labels are steadied; see ``Steadiness``.
    :param heads: roles of the model's further outputs, each of which becomes a mask of its own.
    :param remaps: by the name of a class table, the model's own way to it; see ``ModelCard``.
    :param dynamic_value: of pixels of ``dynamic_mask`` that are dynamic.
    :ivar outputs: what it can make of a frame.
    """

    def __init__(self, segmenter: Segmenter, own: ClassTable, published: ClassTable | None = None,
                 output: Size | None = None,
                 ego_masks: Mapping[str, EgoMask] | None = None,
                 trust: Trust | None = None, steady: Collection[str] = (),
                 heads: Sequence[str] = (), remaps: Mapping[str, Path] | None = None,
                 dynamic_value: int = 255) -> None:
        self.segmenter = segmenter
        self._next: Tuned | None = None
        self._dynamic_value = dynamic_value
        self._begin = starter(segmenter)
        self._last: Batch | None = None
        self._asked: tuple[bool, bool, Trust | None, frozenset[str], Demand] | None = None
        self.classes = published or own
        ways = remaps or {}
        self.tables = products.Tables(
            remap=(None if self.classes == own
                   else remap_lut(own, self.classes, ways.get(self.classes.remap_name))),
            dynamic=own.dynamic_lut() // 255 * np.uint8(dynamic_value),
            palette_bgr=self.classes.palette_bgr(),
            autoware=autoware_lut(own, ways.get(_AUTOWARE)))
        self.outputs = (*products.OUTPUTS, *map(products.of_head, heads))
        self._heads = frozenset((*heads, DRIVABLE_CLASS))
        self.output = output
        self._ego_masks = ego_masks or {}
        self.trust = trust
        self._steady = {name: Steadiness(self.tables.dynamic) for name in steady}

    def retune(self, tuned: Tuned) -> None:
        """Take other wishes, all of them together, before the next frame; from any thread."""
        self._next = tuned

    def process(self, frames: Sequence[Frame], wanted: Sequence[Collection[str]],
                clock: StageClock) -> list[Products | FrameError]:
        """
        Return the products of each frame, or why it was refused, in their order.

        :param wanted: for each frame the names of ``products.OUTPUTS`` that somebody waits for.
        :raises DeviceLostError: when the device has failed for good.
        """
        return self.start(frames, wanted, clock).finish()

    def start(self, frames: Sequence[Frame], wanted: Sequence[Collection[str]],
              clock: StageClock) -> 'Batch':
        """
        Begin with what ``process`` does; a device may be given the next frames meanwhile.

        :raises DeviceLostError: when the device has failed for good.
        """
        if self._next is not None:
            if self._last is not None:
                self._last.settle()  # its frames are made by what they were begun with
            self._tune()
        demand = self._demand(any(frame.camera in self._steady for frame in frames),
                              frozenset().union(*wanted))
        running = self._begin(frames, demand, clock)
        self._last = Batch(running, lambda results: [
            self._finished(frame, result, names, clock)
            for frame, result, names in zip(frames, results, wanted, strict=True)])
        return self._last

    def _demand(self, steady: bool, wanted: frozenset[str]) -> Demand:
        """Return what is asked of the segmenter: nearly always the same as the last time."""
        asked = self._asked
        needs = self.trust is not None and self.trust.needs_confidence
        if asked is None or asked[:4] != (steady, needs, self.trust, wanted):
            asked = self._asked = steady, needs, self.trust, wanted, Demand(
                self.output, entropy='entropy' in wanted,
                confidence=steady or needs or 'confidence' in wanted,
                drivable=(self.trust is not None and self.trust.judge.needs_drivable) or steady
                or not wanted.isdisjoint(('drivable', DRIVABLE_CLASS)),
                heads=self._heads & wanted,
                glimpse=None if self.trust is None else self.trust.judge.glimpse)
        return asked[4]

    def _tune(self) -> None:
        tuned = self._next
        assert tuned is not None
        wishes = tuned.wishes
        self.segmenter.retune(tuned.policy)
        if self.trust is not None:
            self.trust.retune(wishes.withholding, wishes.timing)
        dynamic = tuned.dynamic // 255 * np.uint8(self._dynamic_value)
        changed = not np.array_equal(dynamic, self.tables.dynamic)
        self.tables.drivable_class = tuned.policy.lut
        self.tables.dynamic, self.tables.overlay_alpha = dynamic, wishes.overlay_alpha
        self._steady = {name: self._steady[name] if name in self._steady and not changed
                        else Steadiness(dynamic) for name in wishes.steady}
        if self._next is tuned:  # not before: what has failed is tried again
            self._next = None

    def _finished(self, frame: Frame, result: Result, wanted: Collection[str],
                  clock: StageClock) -> Products | FrameError:
        """Return what is published for one frame, or why it was refused."""
        if isinstance(result, FrameError):
            return result
        standing = None
        try:
            if frame.rectification is not None or frame.camera in self._ego_masks:
                with clock.stage('ego_mask'), mishaps('masking'):
                    self._forget_unseen(frame, result)
            if self.trust is not None:
                with clock.stage('trust'), mishaps('judging'):
                    standing = self.trust.examine(frame, result)
            if (steadiness := self._steady.get(frame.camera)) is not None:
                with clock.stage('steadiness'), mishaps('steadying'):
                    if self._withheld(standing):
                        steadiness.reset()
                    else:
                        steadiness.follow(result, frame.header.stamp_ns)
            with clock.stage('products'), mishaps('making the outputs of'):
                return products.make(frame, result, self.tables, wanted, standing, self.outputs)
        except FrameError as error:
            return error.with_traceback(None)  # it holds this very frame

    def _withheld(self, standing: Standing | None) -> bool:
        """Return whether a frame's labels say nothing about the next ones."""
        return self.trust is not None and standing is not None and (
            State.BLIND in (standing.state, standing.verdict.state)
            or self.trust.policy.withholds(standing))

    def _forget_unseen(self, frame: Frame, result: Segmentation) -> None:
        """Take out the vehicle itself, and what the rectified camera did not see."""
        if frame.rectification is not None:
            unseen = frame.rectification.unseen(result.geometry.output)
            if unseen is not None:
                result.forget(unseen)
        mask = self._ego_masks.get(frame.camera)
        if mask is not None:
            mask.apply(result)
