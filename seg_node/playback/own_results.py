"""Which topics of a recording another run of seg_node published."""

from ..products import OUTPUTS
from .sources import CAMERA_INFO, Source, Topic

_STATE = 'diagnostic_msgs/msg/DiagnosticArray'
COMPRESSED = '/compressed'
_IMAGES = frozenset(output.name for output in OUTPUTS)
_BESIDE = frozenset({'label_info', 'label_info_json', 'state', 'drivable_grid', 'scan',
                     'ground_points', 'free_space'})


def results_of(source: Source) -> set[str]:
    """Return what seg_node published, by name: the topics beside class names and states."""
    prefixes = {topic.name.rpartition('/')[0] for topic in source.topics
                if topic.name.rpartition('/')[2] in ('label_info', 'label_info_json')
                or topic.name.endswith('/state') and topic.type == _STATE}
    return {topic.name for topic in source.topics if _belongs(topic, prefixes)}


def _belongs(topic: Topic, prefixes: set[str]) -> bool:
    prefix, _, name = topic.name.removesuffix(COMPRESSED).rpartition('/')
    return prefix in prefixes and (name in _IMAGES | _BESIDE or topic.type == CAMERA_INFO)
