"""What is to run, checked as far as that is quick; and the opening of it, which takes its time."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
import time

from ..devices.choose import Chosen, open_segmenter, Wish
from ..ego_mask import EgoMask
from ..errors import ConfigError
from ..geometry import Size
from ..model.card import load_card, ModelCard
from ..model.policy import DrivablePolicy
from ..model.taxonomy import ClassTable, load_taxonomy, remap_lut
from ..pipeline import Pipeline
from ..trust.policy import Policy, Trust
from ..trust.watch import Timing
from .warm_up import warm_up


@dataclass(frozen=True)
class Loaded:
    """
    A pipeline that has proved itself on a test image.

    :ivar reason: of the choice of the device, '' = it was asked for.
    :ivar gpu_unused: why it runs on the CPU although a GPU is there; '' = not so.
    :ivar usual_s: what one run of the network took.
    :ivar took_s: what the loading took.
    """

    pipeline: Pipeline
    reason: str
    gpu_unused: str
    usual_s: float
    took_s: float


@dataclass(frozen=True)
class PipelineSpec:
    """
    Everything that decides what a pipeline does; no device is needed to make it.

    :ivar published: the class table of the published mask; None = the model's own.
    :ivar output: size of the masks; None = each camera's own.
    :ivar ego_masks: by camera name, what of its image shows the vehicle itself.
    :ivar withholding: what is done about masks that are not to be believed.
    :ivar timing: how long something must last to change a camera's state.
    :ivar steady: names of the cameras whose labels are steadied.
    """

    card: ModelCard
    wish: Wish
    policy: DrivablePolicy
    published: ClassTable | None
    output: Size | None
    ego_masks: Mapping[str, EgoMask]
    withholding: Policy = Policy()
    timing: Timing = Timing()
    steady: frozenset[str] = frozenset()

    @classmethod
    def check(cls, model: str, wish: Wish, drivable: tuple[str, ...] | None, taxonomy: str,
              output: Size | None, ego_masks: Mapping[str, EgoMask],
              withholding: Policy, timing: Timing) -> 'PipelineSpec':
        """
        Read the model's card and the class tables.

        :param drivable: the classes that are drivable; None = as the card says.
        :param taxonomy: of the published mask; '' = the model's own.
        :raises ConfigError: what cannot be read, or contradicts another part.
        """
        wish.check()
        card = load_card(model)
        published = load_taxonomy(taxonomy) if taxonomy else None
        if published is not None:
            remap_lut(card.main_output.classes, published, card.remaps.get(published.name))
        Trust(card, withholding, timing)  # refuses now what does not fit
        return cls(card, wish, DrivablePolicy(card, drivable), published, output, ego_masks,
                   withholding, timing)

    def steadied(self, cameras: Collection[str]) -> 'PipelineSpec':
        """
        Return the same with the labels of some cameras steadied.

        :raises ConfigError: the model has no confidence to do it by.
        """
        if cameras and self.card.main_output.kind == 'labels':
            raise ConfigError(f'parameter {min(cameras)}.steadiness is true, but '
                              f'{self.card.name} gives class ids without a confidence: set it to '
                              'false, or export the model with its logits')
        return replace(self, steady=frozenset(cameras))

    @property
    def classes(self) -> ClassTable:
        """The class table of the published mask."""
        return self.published or self.card.main_output.classes

    @property
    def heads(self) -> dict[str, ClassTable]:
        """The class tables of the masks of their own, by the roles of their outputs."""
        return {output.role: output.classes for output in self.card.other_outputs}

    def open(self) -> Loaded:
        """
        Open the device, load the model, and try it; on the thread that will use and close it.

        :raises SegNodeError: it cannot run, or contradicts its card; then nothing is left open.
        """
        start = time.monotonic()
        chosen = open_segmenter(self.card, self.wish, self.policy)
        try:
            return self._tried(chosen, start)
        except BaseException:
            chosen.segmenter.close()
            raise

    def _tried(self, chosen: Chosen, start: float) -> Loaded:
        pipeline = Pipeline(chosen.segmenter, self.card.main_output.classes, self.published,
                            self.output, self.ego_masks,
                            Trust(self.card, self.withholding, self.timing), self.steady,
                            [output.role for output in self.card.other_outputs],
                            self.card.remaps)
        usual_s = warm_up(pipeline)
        return Loaded(pipeline, chosen.reason, chosen.gpu_unused, usual_s,
                      time.monotonic() - start)
