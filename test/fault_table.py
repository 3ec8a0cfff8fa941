"""
The table of faults in docs/faults.md: written by the tests that cause them, and held to.

``SEG_NODE_WRITE_FAULTS=1 python -m pytest test/test_faults.py`` writes it again.
"""

from dataclasses import astuple, dataclass
import os
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[1] / 'docs' / 'faults.md'
WRITE = bool(os.environ.get('SEG_NODE_WRITE_FAULTS'))
BEGIN, END = '<!-- faults: written by test/test_faults.py -->', '<!-- end of faults -->'
HEAD = ('fault', 'what is published', '/diagnostics', 'told after', 'how it ends', 'ended after',
        'exit code')


@dataclass(frozen=True)
class Fault:
    """
    One row.

    :ivar told_s: from the cause to the status that tells; None = that comes with the end.
    :ivar ended_s: from the cause to what ``ends`` says; None = there is nothing to wait for.
    :ivar code: of the process; None = it lives on.
    """

    name: str
    published: str
    says: str
    told_s: float | None
    ends: str
    ended_s: float | None
    code: int | None

    def cells(self) -> list[str]:
        """Return the row as it is written."""
        def text(value: object) -> str:
            return ('–' if value is None else f'{value:.1f} s' if isinstance(value, float)
                    else str(value))
        return [text(value) for value in astuple(self)]


def rows() -> dict[str, list[str]]:
    """Return the documented rows by the name of the fault."""
    text = DOCUMENT.read_text(encoding='utf-8')
    lines = text[text.index(BEGIN):text.index(END)].splitlines()[3:]
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    return {row[0]: row for row in cells}


def record(fault: Fault) -> None:
    """Compare a fault with its row, but for the measured times; or write it there, if so told."""
    found = fault.cells()
    documented = rows()
    if WRITE:
        _write({**documented, fault.name: found})
        return
    assert fault.name in documented, f'not in {DOCUMENT.name}: {__doc__}'
    measured = {HEAD.index('told after'), HEAD.index('ended after')}
    wanted = documented[fault.name]
    for column, name in enumerate(HEAD):
        if column not in measured:
            assert found[column] == wanted[column], f'{name} of {fault.name}: {__doc__}'


def _write(table: dict[str, list[str]]) -> None:
    lines = [BEGIN, *(f'| {" | ".join(row)} |' for row in
                      (HEAD, ['---'] * len(HEAD), *table.values())), END]
    text = DOCUMENT.read_text(encoding='utf-8')
    before, after = text[:text.index(BEGIN)], text[text.index(END) + len(END):]
    DOCUMENT.write_text(before + '\n'.join(lines) + after, encoding='utf-8')
