"""Edits the text of a card key by key: comments and order are a person's, and stay."""

from pathlib import Path
import re
from typing import Any

import yaml


def replaced(text: str, key: str, value: Any) -> str:
    """
    Return a card's text with another value of a top-level key, leaving all else as it stands.

    A new key goes before ``weaknesses``, or to the end.

    :param value: None takes the key out.
    """
    block = '' if value is None else yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False,
                                               width=99, default_flow_style=None)
    # A list's entries may begin in the first column, too; the next key begins with a letter.
    found = re.compile(rf'(?ms)^{key}:.*?(?=^[a-z]|\Z)')
    if found.search(text):
        return found.sub(lambda _: block, text, count=1)
    new, count = re.subn(r'(?m)^weaknesses:', lambda match: block + match.group(), text, count=1)
    return new if count else text.rstrip('\n') + '\n' + block


def write_key(card: Path, key: str, value: Any) -> None:
    """Set a top-level key in the file of a card."""
    card.write_text(replaced(card.read_text(encoding='utf-8'), key, value), encoding='utf-8')


class _Dumper(yaml.SafeDumper):
    """Writes rows of numbers in one line, everything else in lines of their own."""


def _short_lists_in_a_row(dumper: yaml.SafeDumper, value: list[Any]) -> Any:
    flow = all(isinstance(item, (int, float)) for item in value)
    return dumper.represent_sequence('tag:yaml.org,2002:seq', value, flow_style=flow)


def _mappings_in_lines(dumper: yaml.SafeDumper, value: dict[Any, Any]) -> Any:
    flow = 3 <= len(value) <= 4 and all(isinstance(item, (int, float, type(None)))
                                        for item in value.values())
    return dumper.represent_mapping('tag:yaml.org,2002:map', value, flow_style=flow)


_Dumper.add_representer(list, _short_lists_in_a_row)
_Dumper.add_representer(dict, _mappings_in_lines)
