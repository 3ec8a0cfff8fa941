"""Which topics of a source are cameras, and how the node is told of them."""

from dataclasses import dataclass
import re

from ..errors import ConfigError
from ..products import OUTPUTS
from .drive_source import TRUTH
from .sources import CAMERA_INFO, COMPRESSED_IMAGE, Source, Topic
from .topics import absolute

_SUFFIX = '/compressed'
_TRUTH_TOPIC = f'/camera/{TRUTH}'
_NAMES = frozenset(output.name for output in OUTPUTS)


@dataclass(frozen=True)
class CameraRun:
    """One image topic of the source and the camera that the node gets for it."""

    name: str
    source_topic: str
    played_topic: str
    compressed: bool

    @property
    def parameters(self) -> dict[str, object]:
        """The node's parameters for this camera."""
        return {f'{self.name}.image_topic': self.played_topic.removesuffix(_SUFFIX)
                if self.compressed else self.played_topic,
                f'{self.name}.transport': 'compressed' if self.compressed else 'raw'}

    def output(self, name: str) -> str:
        """Return the topic of one of the node's outputs for this camera."""
        return f'/seg_node/{self.name}/{name}'


def truth_topic(source: Source) -> str | None:
    """Return the topic of a drive's true labels, if the source has one."""
    return next((topic.name for topic in source.topics
                 if topic.is_image and absolute(topic.name) == _TRUTH_TOPIC), None)


def camera_runs(source: Source) -> list[CameraRun]:
    """
    Return a camera for each image topic; of a raw and compressed pair the raw one.

    True labels and what another run of seg_node published are no cameras.

    :raises ConfigError: when nothing is left.
    """
    results = _results(source)
    truth = truth_topic(source)
    topics = [topic for topic in source.topics
              if topic.is_image and topic.name != truth and topic.name not in results]
    if not topics:
        raise ConfigError(f'{source.path} holds no camera, only results of seg_node or true '
                          f'labels ({", ".join(sorted(results) or [str(truth)])}). Give the '
                          'recording of the camera.')
    names = {topic.name for topic in topics}
    runs: list[CameraRun] = []
    for topic in topics:
        compressed = topic.type == COMPRESSED_IMAGE
        base = topic.name.removesuffix(_SUFFIX)
        if compressed and base in names - {topic.name}:
            continue
        played = absolute(topic.name)
        if compressed and not played.endswith(_SUFFIX):
            played += _SUFFIX  # where the node looks for compressed images
        runs.append(CameraRun(_name(base, [run.name for run in runs]), topic.name, played,
                              compressed))
    return runs


def info_topics(source: Source) -> list[str]:
    """Return the topics of the cameras' camera_info."""
    results = _results(source)
    return [topic.name for topic in source.topics
            if topic.type == CAMERA_INFO and topic.name not in results]


def _name(base: str, taken: list[str]) -> str:
    """Return a camera's name for a topic, not among those taken."""
    parts = [part for part in base.split('/') if part and not part.startswith('image')]
    name = re.sub(r'\W', '_', '_'.join(parts)) or 'camera'
    name = name if name[0].isalpha() else f'camera_{name}'
    return f'{name}_{len(taken)}' if name in taken else name


def _results(source: Source) -> set[str]:
    """Return what seg_node published: the topics beside its class names."""
    prefixes = {topic.name.rpartition('/')[0] for topic in source.topics
                if topic.name.rpartition('/')[2] in ('label_info', 'label_info_json')}
    return {topic.name for topic in source.topics if _belongs(topic, prefixes)}


def _belongs(topic: Topic, prefixes: set[str]) -> bool:
    prefix, _, name = topic.name.removesuffix(_SUFFIX).rpartition('/')
    return prefix in prefixes and (name in _NAMES or topic.type == CAMERA_INFO)
