"""
Labelled data sets on disk: which label belongs to which image, and what its ids mean.

Nothing is left out silently: an image without its label, a label without its image and an id
that is neither a class nor void are refused.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..frame import Frame
from ..image.decode import MAX_PIXELS
from ..image.photo import orientation
from ..image.wire import CompressedImageMessage, Header, ImageMessage
from ..model.taxonomy import ClassTable, load_taxonomy, UNLABELLED
from .label_image import read_ids
from .layouts import Layout, LAYOUTS
from .picture_file import decode_picture, PICTURE_SUFFIXES
from .splits import wanted_names

_PASSED_ON = {b'\xff\xd8\xff': 'jpeg', b'\x89PNG': 'png'}  # what the product's own decoder reads
_OUTSIDE = -1


@dataclass(frozen=True)
class Pair:
    """An image and its label; ``name`` is their common path below the two folders."""

    name: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Dataset:
    """
    The pairs of a labelled data set, never none; ``open_dataset`` makes it.

    :ivar table: the classes of the labels.
    :ivar ignore: ids in the files that count nowhere, beside those of the layout.
    """

    layout: Layout
    table: ClassTable
    pairs: tuple[Pair, ...]
    ignore: frozenset[int] = field(default=frozenset())

    @cached_property
    def _lut(self) -> np.ndarray:
        """The (256,) int16 class id of each id in a file, 255 = void, -1 = outside."""
        lut = np.full(256, _OUTSIDE, np.int16)
        for entry, ids in zip(self.table.ids, self.layout.ids or self.table.ids, strict=True):
            lut[[ids] if isinstance(ids, int) else list(ids)] = entry
        lut[list(self.table.void_ids)] = UNLABELLED
        lut[list(self.layout.void | self.ignore)] = UNLABELLED
        return lut

    @property
    def ids(self) -> frozenset[int]:
        """Ids of the classes that the labels can name."""
        return frozenset(self._lut.tolist()) - {UNLABELLED, _OUTSIDE}

    def frame(self, pair: Pair) -> Frame:
        """
        Return the image as a frame; JPEG and PNG undecoded, as a camera's compressed image.

        Photos that EXIF says are turned are upright, as their labels are.

        :raises ConfigError: when it cannot be read.
        """
        try:
            data = np.frombuffer(pair.image.read_bytes(), np.uint8)
        except OSError as error:
            raise ConfigError(f'{pair.image} cannot be read: {error.strerror}. Mend it, or take '
                              'the pair out.') from error
        header = Header(0, 0, pair.name)
        for magic, kind in _PASSED_ON.items():
            if data[:len(magic)].tobytes() == magic and orientation(data) == 1:
                return Frame(pair.name, CompressedImageMessage(header, kind, data),
                             max_pixels=MAX_PIXELS)
        image = decode_picture(pair.image, data.tobytes())
        height, width = image.shape[:2]
        return Frame(pair.name, ImageMessage(header, height, width, 'bgr8', False, width * 3,
                                             image.reshape(-1)), max_pixels=MAX_PIXELS)

    def truth(self, pair: Pair) -> np.ndarray:
        """
        Return the label as (H, W) uint8 class ids of ``table``, 255 = void.

        :raises ConfigError: when it cannot be read, or has an id that is neither class nor void.
        """
        return self.meaning(self.raw(pair), pair)

    def raw(self, pair: Pair) -> np.ndarray:
        """
        Return the label as its file has it, (H, W) ids.

        :raises ConfigError: when it cannot be read.
        """
        return read_ids(pair.label)

    def meaning(self, ids: np.ndarray, pair: Pair) -> np.ndarray:
        """
        Return the class ids that ids of a file stand for; see ``truth``.

        :raises ConfigError: one is neither class nor void.
        """
        counts = np.bincount(ids.reshape(-1), minlength=256)
        outside = [int(value) for value in np.flatnonzero(counts)
                   if value > 255 or self._lut[value] == _OUTSIDE]
        if outside:
            raise ConfigError(
                f'{pair.label}: {int(counts[outside].sum())} pixels have ids outside the classes: '
                f'{_ranges(outside)}. Classes of {self.table.name} in the layout '
                f'{self.layout.name}: {_ranges(self._files_ids())}, void: '
                f'{_ranges(self.layout.void | self.ignore)}. Correct --layout or --taxonomy; '
                '--ignore ID leaves an id out on purpose.')
        return self._lut.astype(np.uint8)[ids]

    def _files_ids(self) -> list[int]:
        """Return the ids of all classes in the files."""
        return [one for ids in self.layout.ids or self.table.ids
                for one in ([ids] if isinstance(ids, int) else ids)]


def open_dataset(images: Path, labels: Path, layout: str, table: ClassTable | None = None,
                 ignore: Collection[int] = (), split: Path | None = None) -> Dataset:
    """
    Pair the images of a folder with the labels of another; both are searched with subfolders.

    :param layout: a name in ``LAYOUTS``.
    :param table: the classes of the labels; None = the layout's own.
    :param ignore: ids in the files that count nowhere.
    :param split: a text file with the name of one pair a line; None = all must pair up.
    :raises ConfigError: unknown layout, a table that contradicts it, an id to ignore that is out
        of range, a missing or empty folder, or images and labels that do not pair up.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f'layout {layout!r} is unknown; allowed: {", ".join(LAYOUTS)}.')
    wrong = [value for value in ignore if not 0 <= value <= 255]
    if wrong:
        raise ConfigError(f'--ignore {wrong[0]}: ids in labels are 0 to 255.')
    for folder, option in ((images, '--images'), (labels, '--labels')):
        if not folder.is_dir():
            raise ConfigError(f'{option} {folder} is no folder. Give the one that holds the '
                              f'{option[2:]}.')
    if images.resolve() == labels.resolve():
        raise ConfigError(f'--images and --labels are both {images}. Put images and labels into '
                          'two folders.')
    kind = _present(LAYOUTS[layout], labels)
    pairs = _pair_up(kind, images, labels, split)
    return Dataset(kind, _table(kind, table), pairs, frozenset(ignore))


def _present(layout: Layout, labels: Path) -> Layout:
    """Return the layout by train ids for a tree that holds only those."""
    other = LAYOUTS.get(f'{layout.name}-trainids')
    if other is not None and not _files(labels, layout.label_endings, ('.png',)) \
            and _files(labels, other.label_endings, ('.png',)):
        return other
    return layout


def _table(layout: Layout, table: ClassTable | None) -> ClassTable:
    if layout.taxonomy is None:
        if table is None:
            raise ConfigError(f'the layout {layout.name} does not say which classes its ids are '
                              'for: give --taxonomy.')
        return table
    own = load_taxonomy(layout.taxonomy)
    if table is not None and table.names != own.names:
        raise ConfigError(f'labels in the layout {layout.name} have the classes {own.name}, not '
                          f'{table.name}. Leave --taxonomy out, or choose another --layout '
                          '(pairs takes any class table).')
    return own


def _pair_up(layout: Layout, images: Path, labels: Path,
             split: Path | None) -> tuple[Pair, ...]:
    found = _files(images, (layout.image_ending,), PICTURE_SUFFIXES)
    truths = _files(labels, layout.label_endings, ('.png',))
    for option, folder, files, endings in (
            ('--images', images, found, (layout.image_ending,)),
            ('--labels', labels, truths, layout.label_endings)):
        if not files:
            raise _nothing(layout, option, folder, endings)
    names = (sorted(found.keys() | truths.keys()) if split is None
             else wanted_names(split, layout, found.keys() | truths.keys()))
    without = [('image', images, [name for name in names if name not in found]),
               ('label', labels, [name for name in names if name not in truths])]
    problems = [f'{len(missing)} of {len(names)} pairs have no {what}, the first: {missing[0]} '
                f'below {folder}' for what, folder, missing in without if missing]
    if problems:
        raise ConfigError(f'{"; ".join(problems)}. Nothing is measured on a part of the data: add '
                          'what is missing, take the other half away, or name the pairs wanted '
                          'in a file for --split.')
    return tuple(Pair(name, found[name], truths[name]) for name in names)


def _files(folder: Path, endings: tuple[str, ...], suffixes: tuple[str, ...]) -> dict[str, Path]:
    """
    Return the files with one of these endings and suffixes by their common name.

    :raises ConfigError: when two have the same name.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob('*')):
        below = path.relative_to(folder)
        ending = next((text for text in endings if path.stem.endswith(text)), None)
        if (ending is None or path.suffix.lower() not in suffixes or not path.is_file()
                or any(part.startswith('.') for part in below.parts)):
            continue
        name = below.with_name(path.stem.removesuffix(ending)).as_posix()
        if name in files:
            raise ConfigError(f'{files[name]} and {path} have the same name, so it is unclear '
                              'which one is meant. Take one of them away.')
        files[name] = path
    return files


def _nothing(layout: Layout, option: str, folder: Path, endings: tuple[str, ...]) -> ConfigError:
    suffixes = ('.png',) if option == '--labels' else PICTURE_SUFFIXES
    sought = ', '.join(f'*{ending}' for ending in endings if ending) or 'any name'
    kinds = Counter(path.suffix or 'no suffix' for path in folder.rglob('*') if path.is_file())
    there = ', '.join(f'{count} x {kind}' for kind, count in kinds.most_common(5))
    return ConfigError(f'{option} {folder} holds nothing for the layout {layout.name}: {sought} '
                       f'with {", ".join(suffixes)}. Found: {there or "no file at all"}. Correct '
                       'the folder or --layout.')


def _ranges(ids: Iterable[int]) -> str:
    """Return ids in short: ``0-6, 9, 255``."""
    runs: list[list[int]] = []
    for value in sorted(ids):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ', '.join(str(low) if low == high else f'{low}-{high}' for low, high in runs)
