"""The card beside an exported model."""

import hashlib
from pathlib import Path
import re
from typing import Any

import yaml


def update_card(card: Path, model: Path) -> None:
    """Set ``sha256`` and ``size_bytes`` in a card, leaving all else as it stands."""
    data = model.read_bytes()
    text = card.read_text(encoding='utf-8')
    for key, value in (('sha256', hashlib.sha256(data).hexdigest()), ('size_bytes', len(data))):
        text, count = re.subn(rf'(?m)^{key}: .*$', f'{key}: {value}', text)
        if count != 1:
            raise ValueError(f'{card} must have exactly one line `{key}: ...`; it has {count}')
    card.write_text(text, encoding='utf-8')


def replaced(text: str, key: str, value: Any) -> str:
    """
    Return a card's text with another value of a top-level key, leaving all else as it stands.

    A new key goes before ``weaknesses``.

    :param value: None takes the key out.
    """
    block = '' if value is None else yaml.safe_dump({key: value}, sort_keys=False, width=99)
    # A list's entries may begin in the first column, too; the next key begins with a letter.
    found = re.compile(rf'(?ms)^{key}:.*?(?=^[a-z]|\Z)')
    if found.search(text):
        return found.sub(lambda _: block, text, count=1)
    return re.sub(r'(?m)^weaknesses:', lambda match: block + match.group(), text, count=1)
