"""Which rules hold, told so that what comes and goes does not flicker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from .report import Level, Report
from .rules import Facts, Rule

#: Each time that a rule holds again within this time, it is held up for longer, ...
_MEMORY_S = 20.0
#: ... from the third time on, doubling from 1 s to 8 s: it begins at most a dozen times in the
#: first minute and eight times in every later one.
_FLICKERS = ' (comes and goes)'
_HOLDS_S = (0.0, 0.0, 1.0, 2.0, 4.0, 8.0)


@dataclass
class _Held:
    """A rule that holds or has held."""

    text: str = ''
    held: bool = False
    times: int = 0
    last_true: float = float('-inf')
    ended: float = float('-inf')


@dataclass(frozen=True)
class Verdict:
    """
    What the rules say.

    :ivar level: of the worst one that holds; OK if none does.
    :ivar names: of those that hold, worst first, and of the cause.
    :ivar texts: what each says, in the same order; what is fine where none holds.
    """

    level: Level
    names: tuple[str, ...]
    texts: tuple[str, ...]

    def because(self, name: str, text: str) -> 'Verdict':
        """Return it with the cause of the worst finding."""
        return Verdict(self.level, (*self.names, name),
                       (f'{self.texts[0]}; {text}', *self.texts[1:]))

    def report(self, values: dict[str, str]) -> Report:
        """Return it as a report with these figures."""
        return Report(self.level, '; '.join(self.texts), values, self.names)


class Judge(Generic[Facts]):
    """Asks the rules of one table, again and again."""

    def __init__(self, rules: Sequence[Rule[Facts]]) -> None:
        self._rules = sorted(rules, key=lambda rule: -rule.level)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._states = [_Held() for _ in self._rules]

    def __call__(self, facts: Facts, now: float) -> Verdict:
        """
        Return what holds of the facts at a moment.

        :param now: in seconds of a clock that never jumps; it must not go back between calls.
        """
        found = [(rule, state.text) for rule, state in zip(self._rules, self._states, strict=True)
                 if _update(state, rule, facts, now)]
        return Verdict(max((rule.level for rule, _ in found), default=Level.OK),
                       tuple(rule.name for rule, _ in found), tuple(text for _, text in found))


def _update(state: _Held, rule: Rule[Facts], facts: Facts, now: float) -> bool:
    if rule.when(facts):
        if not state.held:
            state.times = state.times + 1 if now - state.ended < _MEMORY_S else 1
        state.held, state.last_true, state.text = True, now, rule.text(facts)
    elif state.held:
        hold_s = _HOLDS_S[min(state.times, len(_HOLDS_S)) - 1]
        if now - state.last_true >= hold_s:
            state.held, state.ended = False, now
        elif not state.text.endswith(_FLICKERS):
            state.text += _FLICKERS
    return state.held
