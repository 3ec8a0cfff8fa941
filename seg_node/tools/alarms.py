"""Counts alarms on recordings whose frames are known to be good."""

from collections import Counter
from pathlib import Path

from ..errors import ConfigError, FrameError
from ..image import wire
from ..image.decode import decode
from ..pipeline import Pipeline
from ..playback.open_source import open_source
from ..playback.sources import IMAGE
from ..scoring.stress import process
from ..trust.verdict import State
from .console import progress


def count_alarms(pipeline: Pipeline, recording: Path, every: int) -> str:
    """
    Judge every nth frame of a recording by itself, and say how many were not ok.

    :raises ConfigError: it cannot be opened, or has not exactly one camera, or no usable frame.
    """
    with open_source(recording) as source:
        topics = [topic for topic in source.topics if topic.is_image]
        # The true labels of a recorded drive are images, too.
        topics = [topic for topic in topics if not topic.name.endswith('/labels')]
        if len(topics) != 1:
            raise ConfigError(f'{recording} has {len(topics)} image topics; give one with one '
                              'camera.')
        topic = topics[0]
        parse = wire.parse_image if topic.type == IMAGE else wire.parse_compressed_image
        states: Counter[State] = Counter()
        reasons: Counter[str] = Counter()
        for number, record in enumerate(progress(source.records([topic.name]), recording.name,
                                                 topic.count)):
            if number % every:
                continue
            try:
                image = decode(parse(record.data))
            except FrameError as error:
                raise ConfigError(f'{recording}, frame {number}: {error}') from error
            standing = process(pipeline, image, f'{recording.name} {number}').standing
            assert standing is not None
            states[standing.verdict.state] += 1
            if standing.verdict.reason:
                reasons[standing.verdict.reason] += 1
        remarks = source.remarks()
    total, alarms = states.total(), states.total() - states[State.OK]
    if not total:
        raise ConfigError(f'{recording} has no frame.')
    line = f'{recording.name}: {alarms} of {total} frames not ok ({alarms / total:.3f})'
    line += f', e.g. {reasons.most_common(1)[0][0]}' if reasons else ''
    return '\n'.join([line, *remarks])
