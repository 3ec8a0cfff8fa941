"""Names of topics: patterns, and which topics of a source are sent under which name."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
import re

from ..errors import ConfigError
from .messages import message_class
from .own_results import results_of
from .replay_options import ReplayOptions
from .sources import Source, Topic

_NAME = re.compile('(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*')
_LONGEST = 200  # with a namespace before it and /compressed behind it ROS 2 still takes it
CLOCK, DIAGNOSTICS = '/clock', '/diagnostics'


def choose_topics(source: Source, options: ReplayOptions) -> tuple[dict[Topic, str], list[str]]:
    """
    Return the topics to send with their new names, and why others are left out.

    :raises ConfigError: when an option names a topic that is not there or cannot be sent, or
        nothing is left.
    """
    known = [absolute(topic.name) for topic in source.topics]
    for asked in (*options.topics, *options.remap):
        if not any(matches(name, [asked]) for name in known):
            raise ConfigError(f'{source.path} has no topic {asked}; it has {", ".join(known)}.')
    alone = _results_beside_cameras(source)
    remap = {absolute(old): new for old, new in options.remap.items()}
    chosen, notices = {}, []
    for topic in source.topics:
        name = absolute(topic.name)
        if not (matches(name, options.topics) if options.topics else not topic.on_request):
            continue
        if topic.name in alone and not options.topics:
            continue
        new = remap.get(name, topic.name)
        problem = _problem(source, topic) or _no_name(new)
        if not problem:
            chosen[topic] = new
        elif name in map(absolute, options.topics):
            raise ConfigError(f'{name} cannot be sent: {problem}.')
        else:
            notices.append(f'{name} is not sent: {problem}')
    if alone and not options.topics:
        notices.append(f'{len(alone)} topics that seg_node itself published are not sent '
                       f'({sorted(alone)[0]} ...); --topics sends them')
    if not chosen or not (options.topics or any(topic.is_image for topic in chosen)):
        raise ConfigError(f'nothing of {source.path} can be sent: {"; ".join(notices)}.')
    return chosen, notices


def _results_beside_cameras(source: Source) -> set[str]:
    """Return what another run of seg_node published; nothing where that is all there is."""
    results = results_of(source)
    cameras = any(topic.is_image and topic.name not in results for topic in source.topics)
    if not results or not cameras:
        return set()
    return results | {topic.name for topic in source.topics if topic.name == DIAGNOSTICS}


def _problem(source: Source, topic: Topic) -> str:
    if absolute(topic.name) == CLOCK:
        return 'time is told by the player'
    if message_class(topic.type) is None:
        return f'message type {topic.type} is not installed'
    return source.problem(topic)


def _no_name(name: str) -> str:
    """Return why a name, which other recorders may write, is none for ROS 2; '' = it is."""
    if _NAME.fullmatch(name) and len(name) <= _LONGEST:
        return ''
    return (f'{name[:_LONGEST]!r} is no name for ROS 2, which takes letters, digits and _ between '
            f'single /, no digit behind a /, and {_LONGEST} in all; --remap gives it another')


def legal(name: str) -> str:
    """Return an absolute name that ROS 2 takes for one that it may not; the same where it does."""
    name = absolute(name)
    if name and not _no_name(name):
        return name
    parts = [re.sub('[^A-Za-z0-9_]+', '_', part) for part in name.split('/') if part]
    found = '/'.join(f'n{part}' if part[0].isdigit() else part for part in parts)
    return f'/{found[-_LONGEST // 2:].lstrip("/0123456789") or "camera"}'


def absolute(name: str) -> str:
    """Return a topic name or pattern as it is seen from outside; '' stays ''."""
    return name if not name or name.startswith(('/', '*')) else f'/{name}'


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a topic name fits one of some shell-style patterns."""
    return any(absolute(name) == absolute(pattern)  # whatever signs are in it
               or fnmatchcase(absolute(name), absolute(pattern)) for pattern in patterns)


def answer_topics(options: ReplayOptions, images: Sequence[str]) -> dict[str, str]:
    """
    Return the topic that answers each image topic, in lockstep.

    :raises ConfigError: one answer for several image topics.
    """
    if options.lockstep is None:
        return {}
    if isinstance(options.lockstep, str):
        if len(images) != 1:
            raise ConfigError(f'lockstep needs one image topic, {len(images)} are to be sent '
                              f'({", ".join(images)}); choose one with --topics.')
        return {images[0]: absolute(options.lockstep)}
    return {topic: absolute(answer) for topic, answer in options.lockstep.items()
            if topic in images}
