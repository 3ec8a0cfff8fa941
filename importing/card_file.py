"""Writes the card of an imported model."""

from collections.abc import Mapping
import hashlib
from pathlib import Path
from typing import Any

from seg_node.model.card_text import replaced

from .export import Exported
from .recipe import Recipe
from .verify import Agreement, now


def write_card(folder: Path, recipe: Recipe, about: Mapping[str, Any],
               found: Agreement | None = None) -> None:
    """
    Write ``card.yaml`` beside ``model.onnx``.

    :param about: ``name``, ``licences``, ``url``, ``classes``, ``void``, ``exported``.
    :param found: how far the labels agree, once that is known.
    """
    data = (folder / 'model.onnx').read_bytes()
    exported: Exported | None = about['exported']
    given = {'name': 'image', 'layout': 'NCHW', 'dtype': 'float32', **recipe.input}
    head: dict[str, Any] = {'name': 'scores', 'layout': 'NCHW', **recipe.output}
    if about['void']:
        head['void_channels'] = sorted(about['void'])
    head['classes'] = about['classes']
    document: dict[str, Any] = {
        'name': about['name'],
        'description': f'{recipe.family}, imported{_agreed(recipe, found)}.',
        'file': 'model.onnx', 'size_bytes': len(data),
        'sha256': hashlib.sha256(data).hexdigest(),
        **({'source': {'url': about['url']}} if about['url'] else {}),
        'licences': about['licences'], 'input': given, 'outputs': [head]}
    if found is not None:
        document['speed'] = [{'device': f'{found.device}', 'input': found.network,
                              'ms_per_frame': max(found.ms, 0.1),
                              'command': 'median of the network while it was imported'}]
    text = '# yaml-language-server: $schema=../card.schema.json\n'
    if exported is not None:
        text += f'# ONNX by {exported.how}: {"any" if exported.size else "one"} size, ' \
                f'{"any" if exported.batch else "one"} number of pictures.\n'
    for key, value in document.items():
        text = replaced(text, key, value)
    (folder / 'card.yaml').write_text(text, encoding='utf-8')


def _agreed(recipe: Recipe, found: Agreement | None) -> str:
    if found is None:
        return ''
    return (f' on {now()}; {found.equal:.3%} of its labels on {found.pictures} pictures, '
            f'{found.seen} classes among them, are those of {recipe.own}')
