"""What is to run, checked as far as that is quick; and the opening of it, which takes its time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
import time

from ..devices.choose import Chosen, open_segmenter, Wish
from ..ego_mask import EgoMask
from ..errors import ConfigError
from ..frame import DRIVABLE_CLASS
from ..geometry import Size
from ..model.card import load_card, ModelCard
from ..model.grouping import Grouping
from ..model.taxonomy import ClassTable, load_taxonomy, remap_lut
from ..pipeline import Pipeline
from ..trust.policy import Trust
from ..tuning import Tuned, Tuning
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
    :ivar tuned: what may change later.
    :ivar dynamic_value: of pixels of ``dynamic_mask`` that are dynamic.
    """

    card: ModelCard
    wish: Wish
    published: ClassTable | None
    output: Size | None
    ego_masks: Mapping[str, EgoMask]
    tuned: Tuned
    dynamic_value: int = 255

    @classmethod
    def check(cls, model: str, wish: Wish, tuning: Tuning | None = None, *, taxonomy: str = '',
              grouping: Grouping | None = None, output: Size | None = None,
              ego_masks: Mapping[str, EgoMask] | None = None,
              dynamic_value: int = 255) -> 'PipelineSpec':
        """
        Read the model's card and the class tables.

        :param taxonomy: of the published mask; '' = the model's own.
        :param grouping: how its classes are grouped; None = they are not.
        :raises ConfigError: what cannot be read, or contradicts another part.
        """
        wish.check()
        card = load_card(model)
        published = load_taxonomy(taxonomy) if taxonomy else None
        if grouping is not None:
            published = grouping.applied(published or card.main_output.classes)
        if published is not None:
            remap_lut(card.main_output.classes, published,
                      card.remaps.get(published.remap_name))
        tuned = Tuned.check(card, tuning or Tuning())
        Trust(card)  # refuses now a reference that does not fit
        return cls(card, wish, published, output, ego_masks or {}, tuned, dynamic_value)

    def retuned(self, tuning: Tuning) -> 'PipelineSpec':
        """
        Return the same with other wishes, for a pipeline that is running.

        :raises ConfigError: they do not fit the model, or need another output of the network.
        """
        tuned = Tuned.check(self.card, tuning)
        if tuned.policy.output != self.tuned.policy.output:
            raise ConfigError('with these drivable_classes the drivable area comes from output '
                              f'{tuned.policy.output.name} of {self.card.name} instead of '
                              f'{self.tuned.policy.output.name}, which is chosen at configure: '
                              'deactivate and cleanup the node, set it, then configure and '
                              'activate')
        return replace(self, tuned=tuned)

    @property
    def classes(self) -> ClassTable:
        """The class table of the published mask."""
        return self.published or self.card.main_output.classes

    @property
    def heads(self) -> dict[str, ClassTable]:
        """The class tables of the masks of their own, by the roles of their outputs."""
        heads = {output.role: output.classes for output in self.card.other_outputs}
        policy = self.tuned.policy
        return {**heads, DRIVABLE_CLASS: policy.output.classes} if policy.has_classes else heads

    def open(self) -> Loaded:
        """
        Open the device, load the model, and try it; on the thread that will use and close it.

        :raises SegNodeError: it cannot run, or contradicts its card; then nothing is left open.
        """
        start = time.monotonic()
        chosen = open_segmenter(self.card, self.wish, self.tuned.policy)
        try:
            return self._tried(chosen, start)
        except BaseException:
            chosen.segmenter.close()
            raise

    def _tried(self, chosen: Chosen, start: float) -> Loaded:
        pipeline = Pipeline(chosen.segmenter, self.card.main_output.classes, self.published,
                            self.output, self.ego_masks, Trust(self.card),
                            heads=[output.role for output in self.card.other_outputs],
                            remaps=self.card.remaps, dynamic_value=self.dynamic_value)
        pipeline.retune(self.tuned)
        usual_s = warm_up(pipeline, self.wish.cameras)
        return Loaded(pipeline, chosen.reason, chosen.gpu_unused, usual_s,
                      time.monotonic() - start)
