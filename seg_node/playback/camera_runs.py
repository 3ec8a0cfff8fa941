"""Which topics of a source are cameras, and how the node is told of them."""

from collections.abc import Sequence
from dataclasses import dataclass
import re

from ..errors import ConfigError
from .drive_source import TRUTH
from .own_results import COMPRESSED, results_of
from .sources import CAMERA_INFO, COMPRESSED_IMAGE, Source
from .topics import absolute, legal, matches

_LONGEST = 60  # names of topics and files have an end
_TRUTH_TOPIC = f'/camera/{TRUTH}'


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
        return {f'{self.name}.image_topic': self.played_topic.removesuffix(COMPRESSED)
                if self.compressed else self.played_topic,
                f'{self.name}.transport': 'compressed' if self.compressed else 'raw'}

    def output(self, name: str) -> str:
        """Return the topic of one of the node's outputs for this camera."""
        return f'/seg_node/{self.name}/{name}'


def truth_topic(source: Source) -> str | None:
    """Return the topic of a drive's true labels, if the source has one."""
    return next((topic.name for topic in source.topics
                 if topic.is_image and absolute(topic.name) == _TRUTH_TOPIC), None)


def camera_runs(source: Source, wanted: Sequence[str] = ()) -> list[CameraRun]:
    """
    Return a camera for each image topic; of a raw and compressed pair the raw one.

    True labels and what another run of seg_node published are no cameras.

    :param wanted: shell patterns of the topics to take; () = all.
    :raises ConfigError: when nothing is left.
    """
    results = results_of(source)
    truth = truth_topic(source)
    topics = [topic for topic in source.topics
              if topic.is_image and topic.name != truth and topic.name not in results]
    if not topics:
        raise ConfigError(f'{source.path} holds no camera, only results of seg_node or true '
                          f'labels ({", ".join(sorted(results) or [str(truth)])}). Give the '
                          'recording of the camera.')
    if wanted:
        cameras = ', '.join(absolute(topic.name) for topic in topics)
        topics = [topic for topic in topics if matches(topic.name, wanted)]
        if not topics:
            raise ConfigError(f'{source.path} has no camera {" or ".join(wanted)}; it has '
                              f'{cameras}.')
    names = {topic.name for topic in topics}
    runs: list[CameraRun] = []
    for topic in topics:
        compressed = topic.type == COMPRESSED_IMAGE
        base = topic.name.removesuffix(COMPRESSED)
        if compressed and base in names - {topic.name}:
            continue
        played = legal(base if compressed else topic.name)
        while played in {run.played_topic.removesuffix(COMPRESSED) for run in runs}:
            played += '_'  # two names that are the same once they are legal
        if compressed:
            played += COMPRESSED  # where the node looks for compressed images
        runs.append(CameraRun(_name(base, [run.name for run in runs]), topic.name, played,
                              compressed))
    return runs


def info_topics(source: Source) -> list[str]:
    """Return the topics of the cameras' camera_info."""
    results = results_of(source)
    return [topic.name for topic in source.topics
            if topic.type == CAMERA_INFO and topic.name not in results]


def _name(base: str, taken: list[str]) -> str:
    """Return a camera's name for a topic, not among those taken."""
    parts = [part for part in base.split('/') if part and not part.startswith('image')]
    name = re.sub('[^A-Za-z0-9_]', '_', '_'.join(parts)) or 'camera'
    if len(name) > _LONGEST:
        name = name[-_LONGEST:].lstrip('_') or 'camera'
    name = name if name[0].isalpha() else f'camera_{name}'
    return f'{name}_{len(taken)}' if name in taken else name
