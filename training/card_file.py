"""The card beside an exported model."""

import hashlib
from pathlib import Path
import re

from seg_node.model.card_text import replaced

__all__ = ['replaced', 'update_card']


def update_card(card: Path, model: Path) -> None:
    """Set ``sha256`` and ``size_bytes`` in a card, leaving all else as it stands."""
    data = model.read_bytes()
    text = card.read_text(encoding='utf-8')
    for key, value in (('sha256', hashlib.sha256(data).hexdigest()), ('size_bytes', len(data))):
        text, count = re.subn(rf'(?m)^{key}: .*$', f'{key}: {value}', text)
        if count != 1:
            raise ValueError(f'{card} must have exactly one line `{key}: ...`; it has {count}')
    card.write_text(text, encoding='utf-8')
