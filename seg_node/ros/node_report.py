"""What the diagnostics say about the node as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..health.report import Level, Report
from ..running.device_thread import Load
from ..running.starts import Starts

_LONG_LOAD_S = 60.0


@dataclass(frozen=True)
class NodeFacts:
    """
    What the judgement is made of.

    :ivar state: name of the lifecycle state.
    :ivar ending: why the process is about to end with an error; '' = it is not.
    :ivar error: what failed last; '' = nothing.
    :ivar late: what does not come back.
    """

    state: str
    transport: str
    ending: str
    error: str
    late: Sequence[str]
    load: Load | None
    starts: Starts


def node_report(facts: NodeFacts) -> Report:
    """Judge the node: what ends it, what does not come back, what is being loaded."""
    level, finding, message = _judge(facts)
    return Report(level, message, _values(facts), (finding,) if finding else ())


def choice_line(reason: str, gpu: bool) -> str:
    """
    Return the line of the log about the choice of a device.

    Where there is no GPU, why it is not used is no news: /diagnostics has it.

    :param reason: the choice, and after '; ' why no other was made.
    """
    return reason if gpu else f'{reason.partition("; ")[0]}: there is no GPU here'


def _judge(facts: NodeFacts) -> tuple[Level, str, str]:
    if facts.ending:
        return Level.ERROR, 'ending', f'the process ends: {facts.ending}'
    if facts.late:
        return Level.ERROR, 'late', '; '.join(facts.late)
    if facts.error:
        return Level.ERROR, 'failed', facts.error
    last_end = facts.starts.last_end
    if facts.load is not None and facts.load.loaded is None:
        return _loading(facts.load, last_end)
    if last_end and not facts.starts.brought_a_mask:
        return Level.WARN, 'restarted', f'{facts.state}; the last start ended at {last_end}'
    return Level.OK, '', facts.state


def _loading(load: Load, last_end: str) -> tuple[Level, str, str]:
    if load.waits_s > 0:
        return Level.WARN, 'waiting', (
            f'loads the model in {load.waits_s:.0f} s: the starts before brought no mask; the '
            f'last one ended at {last_end}')
    level = Level.WARN if load.seconds > _LONG_LOAD_S else Level.OK
    return level, 'loading', f'loading, {load.seconds:.1f} s'


def _values(facts: NodeFacts) -> dict[str, str]:
    values = {'state': facts.state, 'transport': facts.transport}
    if facts.load is not None:
        spec, loaded = facts.load.spec, facts.load.loaded
        values.update(model=spec.card.name, taxonomy=spec.classes.name)
        if loaded is not None:
            segmenter = loaded.pipeline.segmenter
            values.update(backend=segmenter.description, device=segmenter.device,
                          loading_s=f'{loaded.took_s:.1f}')
            if loaded.pipeline.trust is not None and loaded.pipeline.trust.judge.missing:
                values['not_judged'] = loaded.pipeline.trust.judge.missing
            if loaded.reason:
                values['backend_choice'] = loaded.reason
    if facts.starts.last_end:
        values['last_end'] = facts.starts.last_end
    return values
