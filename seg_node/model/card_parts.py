"""What the entries of a card say, checked across their keys."""

from math import isfinite
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import user_path
from . import schema
from .taxonomy import class_table, ClassTable, load_taxonomy
from .tensors import InputSpec, OutputSpec, Window

MAIN_ROLES = ('labels', 'drivable')
#: Topics of a camera that no mask of its own may take.
TAKEN = ('autoware_mask', 'camera_info', 'color_mask', 'confidence', 'drivable_grid',
         'dynamic_mask', 'free_space', 'ground_points', 'label_info', 'label_info_json', 'mask',
         'overlay', 'scan', 'state')


def input_spec(entry: dict[str, Any], path: Path) -> InputSpec:
    """Return the input of a card that fits the schema, after the checks across keys."""
    _finite(entry, ('scale', 'mean', 'std'), path)
    if ('size' in entry) == ('short_side' in entry):
        found = 'both size and' if 'size' in entry else 'neither size nor'
        raise ConfigError(f'{path}: input has {found} short_side; give exactly one: size: '
                          '[height, width] for a network with a fixed input, short_side and '
                          'multiple for a dynamic one.')
    dynamic, letterbox = 'short_side' in entry, entry['resize'] == 'letterbox'
    _belongs(entry, 'multiple', dynamic, 'short_side', path)
    _belongs(entry, 'pad_value', letterbox, 'resize: letterbox', path)
    for key, fits, partner in (('rounding', dynamic, 'short_side'),
                               ('longest_side', dynamic, 'short_side'),
                               ('pad', letterbox, 'resize: letterbox')):
        if key in entry:
            _belongs(entry, key, fits, partner, path)
    if entry.get('longest_side', 8192) < entry.get('short_side', 0):
        raise ConfigError(f'{path}: input.longest_side is {entry["longest_side"]}, less than '
                          f'short_side, {entry["short_side"]}. It bounds the longer side: give at '
                          'least as much, or leave it out.')
    if entry['dtype'] == 'uint8' and (entry['scale'] != 1 or any(entry['mean'])
                                      or any(value != 1 for value in entry['std'])):
        raise ConfigError(f'{path}: input.dtype is uint8, so the network normalises for itself; '
                          f'scale, mean and std are {entry["scale"]}, {entry["mean"]} and '
                          f'{entry["std"]}. Set scale: 1, mean: [0, 0, 0], std: [1, 1, 1], or '
                          'correct dtype.')
    if entry['dtype'] == 'uint8' and entry.get('interpolation') == 'unrounded':
        raise ConfigError(f'{path}: input.interpolation is unrounded, but dtype is uint8, which '
                          'holds whole grey levels. Choose linear or antialias.')
    size, short_side = entry.get('size'), entry.get('short_side')
    return InputSpec(
        name=entry['name'], layout=entry['layout'], colour=entry['colour'],
        dtype=entry['dtype'], mean=_triple(entry['mean']), std=_triple(entry['std']),
        scale=float(entry['scale']), size=(int(size[0]), int(size[1])) if size else None,
        short_side=int(short_side) if short_side else None,
        multiple=int(entry.get('multiple', 1)),
        resize=entry['resize'], pad_value=float(entry.get('pad_value', 0)),
        interpolation=entry.get('interpolation', 'linear'),
        rounding=entry.get('rounding', 'nearest'), longest_side=entry.get('longest_side'),
        pad=entry.get('pad', 'centre'), window=_window(entry, path))


def _window(entry: dict[str, Any], path: Path) -> Window | None:
    """Return the window, if there is one; every picture must have room for it."""
    if 'window' not in entry:
        return None
    (height, width), (down, right) = entry['window']['size'], entry['window']['stride']
    if down > height or right > width:
        raise ConfigError(f'{path}: input.window.stride is {[down, right]}, more than its size, '
                          f'{[height, width]}: what lies between would never be seen. Give at '
                          'most the size.')
    room = entry['size'] if 'size' in entry else [entry['short_side']] * 2
    if height > room[0] or width > room[1] or 'longest_side' in entry:
        said = ('longest_side makes pictures smaller than it' if 'longest_side' in entry else
                f'{"size" if "size" in entry else "short_side"} is {room[0]}'
                + (f' x {room[1]}' if 'size' in entry else ''))
        raise ConfigError(f'{path}: input.window.size is {[height, width]}, but {said}: the '
                          'resized picture must be at least as large as the window. Make it '
                          'larger, or leave window out.')
    return Window((height, width), (down, right))


def output_spec(entry: dict[str, Any], prefix: str, model: str, path: Path) -> OutputSpec:
    """Return one output of a card that fits the schema, after the checks across keys."""
    kind, layout = entry['kind'], entry['layout']
    if layout == 'NHW' and kind != 'labels':
        raise ConfigError(f'{path}: {prefix}layout is NHW, which only kind: labels can have; '
                          f'kind is {kind}. Allowed: NCHW, NHWC.')
    _belongs(entry, 'activation', kind == 'sigmoid', 'kind: sigmoid', path, prefix)
    for key, fits in (('threshold', kind == 'sigmoid'), ('align_corners', kind != 'labels'),
                      ('temperature', kind == 'logits'), ('void_channels', kind != 'sigmoid')):
        if key in entry and not fits:
            raise ConfigError(f'{path}: {prefix}{key} means nothing with kind: {kind}. Remove '
                              'it, or correct kind.')
    table = _classes(entry['classes'], prefix, f'{model}/{entry["role"]}', path)
    if kind == 'sigmoid' and len(table) != 2:
        raise ConfigError(f'{path}: {prefix}classes has {len(table)} classes, but a sigmoid '
                          'tells exactly 2 apart: list class 0 (below the threshold) and class 1 '
                          '(from it on).')
    void = tuple(sorted(set(entry.get('void_channels', []))))
    if kind not in ('labels', 'sigmoid') and len(table) + len(void) < 2:
        raise ConfigError(f'{path}: {prefix}classes has one class, but {kind} need a channel '
                          'for each of at least 2. One channel in all is kind: sigmoid.')
    channels = len(table) + len(void)
    if kind != 'labels' and void and void[-1] >= channels:
        raise ConfigError(f'{path}: {prefix}void_channels are {list(void)}, but with them and '
                          f'{len(table)} classes the tensor has {channels} channels, 0 to '
                          f'{channels - 1}. Count from 0.')
    if entry['role'] not in MAIN_ROLES and entry['role'].startswith(('driv', 'lab')):
        close = schema.suggestion(entry['role'], MAIN_ROLES)
        raise ConfigError(f'{path}: {prefix}role is {entry["role"]!r}.{close} Allowed: labels, '
                          'drivable, and for a mask of its own a name less like these.')
    if entry['role'] in TAKEN:
        raise ConfigError(f'{path}: {prefix}role is {entry["role"]!r}, which a topic of every '
                          'camera is called. Allowed: labels, drivable, and other names, such as '
                          'lane_marks.')
    if entry['role'] == 'drivable' and not table.drivable_lut().any():
        raise ConfigError(f'{path}: {prefix}role is drivable, but no class of its table is. '
                          'Say drivable: true at the classes a car may drive on.')
    return OutputSpec(name=entry['name'], kind=kind, layout=layout, role=entry['role'],
                      classes=table, align_corners=entry.get('align_corners', False),
                      activation=entry.get('activation'), threshold=entry.get('threshold', 0.5),
                      temperature=float(entry.get('temperature', 1)), void_channels=void)


def _classes(entry: str | list[Any], prefix: str, name: str, path: Path) -> ClassTable:
    if isinstance(entry, list):
        return class_table({'name': name, 'classes': entry}, path, prefix)
    try:
        if entry.endswith(('.yaml', '.yml')):
            return load_taxonomy(path.parent / entry)
        return load_taxonomy(entry)
    except ConfigError as error:
        raise ConfigError(f'{path}: {prefix}classes: {error}') from error


def check_roles(outputs: tuple[OutputSpec, ...], path: Path) -> None:
    """Refuse outputs of which no mask can be made, or two of the same."""
    for what, values in (('name', [output.name for output in outputs]),
                         ('role', [output.role for output in outputs])):
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise ConfigError(f'{path}: two outputs have the {what} {twice!r}. List an output '
                              'once, and give each role to one: labels, drivable, or a name of '
                              'its own.')
    if not any(output.role in MAIN_ROLES for output in outputs):
        raise ConfigError(f'{path}: no output has the role labels or drivable, so there would be '
                          f'no mask; the roles are {", ".join(o.role for o in outputs)}. Give '
                          'labels to the one the class mask is made of.')


def remap_paths(files: list[str], outputs: tuple[OutputSpec, ...],
                path: Path) -> dict[str, Path]:
    """Return the card's own remaps by the name of the table they lead to."""
    main = next((output for output in outputs if output.role == 'labels'), outputs[0]).classes
    found: dict[str, Path] = {}
    for index, name in enumerate(files):
        file = path.parent / user_path(name, f'{path}: remaps[{index}]')
        try:
            document = schema.read_yaml(file)
        except ConfigError as error:
            raise ConfigError(f'{path}: remaps[{index}]: {error}') from error
        schema.check(document, 'remap', file)
        if document['source'] != main.name:
            raise ConfigError(f'{file}: source is {document["source"]!r}, but {path} has the '
                              f'classes {main.name!r}. Correct the key, or take the file out of '
                              'remaps.')
        if document['target'] in found:
            raise ConfigError(f'{path}: remaps has two files for {document["target"]!r}: '
                              f'{found[document["target"]].name} and {file.name}. Keep one.')
        for entry in document['classes']:
            main.id_of(entry, f'{file}: classes')
        found[document['target']] = file
    return found


def _belongs(entry: dict[str, Any], key: str, wanted: bool, partner: str, path: Path,
             prefix: str = 'input.') -> None:
    """Refuse a key that is missing beside its partner, or stands there without it."""
    if (key in entry) != wanted:
        state, mend = ('is missing', 'Add it') if wanted else ('has no meaning', 'Remove it')
        raise ConfigError(f'{path}: {prefix}{key} {state} {"beside" if wanted else "without"} '
                          f'{partner}. {mend}; models/README.md lists every key.')


def _finite(entry: dict[str, Any], keys: tuple[str, ...], path: Path) -> None:
    for key in keys:
        values = entry[key] if isinstance(entry[key], list) else [entry[key]]
        if not all(isfinite(value) for value in values):
            raise ConfigError(f'{path}: input.{key} is {entry[key]}; every number must be '
                              'finite. Write the figures the network was trained with.')


def _triple(values: list[float]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
