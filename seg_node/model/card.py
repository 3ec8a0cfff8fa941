"""Model cards: what a user says about an ONNX file, checked before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
import hashlib
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import looked_in, read_file, user_path
from ..paths import shared
from . import schema
from .card_parts import check_roles, input_spec, MAIN_ROLES, output_spec, remap_paths
from .int8_copy import int8_copy, Int8Copy
from .onnx_file import external_files
from .tensors import InputSpec, mismatches, OutputSpec, TensorInfo

__all__ = ['check_card', 'InputSpec', 'load_card', 'Metric', 'ModelCard', 'OutputSpec',
           'TensorInfo']

_MOST_BYTES = 2 ** 31  # where protobuf ends

@dataclass(frozen=True)
class Metric:
    """
    One measured figure: IoU is a fraction of 1.

    :ivar iou: that of each class by its name, where ``value`` is their mean.
    """

    dataset: str
    split: str
    metric: str
    value: float
    command: str | None = None
    iou: dict[str, float] | None = None


@dataclass(frozen=True)
class ModelCard:
    """
    A model as its card describes it; ``load_card`` makes it.

    :ivar path: the card itself.
    :ivar model_path: the ONNX file; it exists and has this sha256.
    :ivar outputs: one to four, each role at most once; ``labels`` or ``drivable`` is there.
    :ivar licences: of ``code``, ``weights`` and ``data``.
    :ivar source: ``url`` and ``training``, as far as given.
    :ivar raw: the card's YAML as read.
    :ivar remaps: by the name of a class table, the card's own file that leads to it from the
        classes of the main output.
    :ivar int8: its int8 copy, if the card vouches for one.
    """

    name: str
    path: Path
    model_path: Path
    sha256: str
    input: InputSpec
    outputs: tuple[OutputSpec, ...]
    description: str
    licences: dict[str, str] = field(compare=False)
    source: dict[str, str] = field(compare=False, default_factory=dict)
    size_bytes: int | None = None
    opset: int | None = None
    metrics: tuple[Metric, ...] = ()
    weaknesses: tuple[str, ...] = ()
    raw: dict[str, Any] = field(compare=False, repr=False, default_factory=dict)
    remaps: dict[str, Path] = field(compare=False, default_factory=dict)
    int8: Int8Copy | None = None

    @property
    def directory(self) -> Path:
        """The folder of the card."""
        return self.path.parent

    def read_model(self) -> bytes:
        """
        Return the ONNX file, for a runtime: exactly these bytes have the card's checksum.

        The path may lead to another file by the time a library opens it.

        :raises ConfigError: the file is not the one described any more.
        """
        return _model_bytes(self.model_path, self.raw, self.path)

    @property
    def labels_output(self) -> OutputSpec | None:
        """The output the class mask is made of, if the model has one."""
        return self._with_role('labels')

    @property
    def drivable_output(self) -> OutputSpec | None:
        """The output of its own for the drivable area, if the model has one."""
        return self._with_role('drivable')

    @property
    def main_output(self) -> OutputSpec:
        """The output the class mask is made of: the labels, or else the drivable area."""
        main = self.labels_output or self.drivable_output
        assert main is not None  # see check_roles
        return main

    @property
    def other_outputs(self) -> tuple[OutputSpec, ...]:
        """The outputs that are masks of their own, beside labels and drivable area."""
        return tuple(output for output in self.outputs if output.role not in MAIN_ROLES)

    def _with_role(self, role: str) -> OutputSpec | None:
        return next((output for output in self.outputs if output.role == role), None)


def load_card(name_or_path: str | Path) -> ModelCard:
    """
    Load a model card and verify the file it describes.

    :param name_or_path: a shipped model's name, a folder with a card.yaml, or a card's path;
        text is a path when it has a ``/``, starts with ``.`` or ``~`` or ends in .yaml or .yml.
    :raises ConfigError: when the card or its model is missing, is wrong in any way, or the file
        is not the one described.
    """
    path = _find(name_or_path)
    raw = schema.read_yaml(path)
    schema.check(raw, 'card', path)
    spec = input_spec(raw['input'], path)
    outputs = tuple(output_spec(entry, f'outputs[{index}].', raw['name'], path)
                    for index, entry in enumerate(raw['outputs']))
    check_roles(outputs, path)
    model = path.parent / user_path(raw['file'], f'{path}: file')
    _check_whole(_model_bytes(model, raw, path), model)
    return ModelCard(
        name=raw['name'], path=path, model_path=model, sha256=raw['sha256'],
        input=spec, outputs=outputs, description=raw['description'], licences=raw['licences'],
        source=raw.get('source', {}), size_bytes=raw.get('size_bytes'), opset=raw.get('opset'),
        metrics=tuple(Metric(**entry) for entry in raw.get('metrics', [])),
        weaknesses=tuple(raw.get('weaknesses', [])), raw=raw,
        remaps=remap_paths(raw.get('remaps', []), outputs, path),
        int8=int8_copy(raw.get('int8'), path))


def check_card(card: ModelCard, inputs: Sequence[TensorInfo],
               outputs: Sequence[TensorInfo]) -> None:
    """
    Compare a card with the tensors that the loaded model really has.

    Only known dimensions are compared; dynamic ones fit everything.

    :raises ConfigError: with every disagreement and the model's own tensors.
    """
    problems = mismatches(card.input, card.outputs, inputs, outputs)
    if problems:
        lines = [f'{card.path} does not describe {card.model_path.name}:',
                 *(f'- {problem}' for problem in problems),
                 'The model itself has', *(f'  input {tensor}' for tensor in inputs),
                 *(f'  output {tensor}' for tensor in outputs),
                 'Correct the card, or put the file in place that it describes.']
        raise ConfigError('\n'.join(lines))


def _find(name_or_path: str | Path) -> Path:
    """Return the path of the card that is meant."""
    text = str(name_or_path)
    if (isinstance(name_or_path, str) and '/' not in text
            and not text.startswith(('.', '~')) and not text.endswith(('.yaml', '.yml'))):
        folder = shared('models')
        shipped = sorted(card.parent.name for card in folder.glob('*/card.yaml'))
        if text not in shipped:
            beside = f' The folder here is meant by ./{text}.' if text and Path(text).is_dir() \
                else ''
            raise ConfigError(f'There is no model {text!r}.{schema.suggestion(text, shipped)} '
                              f'Shipped: {", ".join(shipped)}.{beside} For one of your own give '
                              'the path of its folder (./my_model); models/README.md tells how '
                              'to make it.')
        return folder / text / 'card.yaml'
    path = user_path(name_or_path, 'the model')
    try:
        card = path / 'card.yaml' if path.is_dir() else path
        found, why = card.is_file(), ''
    except OSError as error:  # no right to look, or a name too long
        card, found, why = path, False, f' ({error.strerror})'
    if not found:
        place = repr(str(card))[1:-1]  # a NUL would not be seen
        raise ConfigError(f'There is no model card at {place[:300]}{why}{looked_in(card)}. Give '
                          'a folder that holds a card.yaml, or the path of a card; '
                          'models/README.md tells how to write one.')
    return card


def _model_bytes(model: Path, raw: dict[str, Any], path: Path) -> bytes:
    """Return a model file; refuse one that is missing, a pointer, cut off or another one."""
    data = read_file(model, _MOST_BYTES, "Put the ONNX file there, or correct the key (it counts "
                     "from the card's folder).", f'{path}: file is {raw["file"]!r}, but {model}')
    if data.startswith(b'version https://git-lfs'):
        raise ConfigError(f'{model} is a Git LFS pointer, not the model. Run: git lfs pull')
    if raw.get('size_bytes', len(data)) != len(data):
        raise ConfigError(f'{path}: size_bytes is {raw["size_bytes"]}, but {model} has '
                          f'{len(data)} bytes. Fetch the file again, or, if it is the one you '
                          'mean, correct size_bytes and sha256.')
    digest = hashlib.sha256(data).hexdigest()
    if digest != raw['sha256']:
        raise ConfigError(f'{path}: sha256 is {raw["sha256"]}, but {model} has {digest}. If that '
                          'is the file you mean, put its sha256 into the card; if not, fetch the '
                          'right one.')
    return data


def _check_whole(data: bytes, model: Path) -> None:
    """Refuse a model whose weights lie in other files, which the checksum does not cover."""
    try:
        others = external_files(data)
    except ValueError as error:
        raise ConfigError(f'{model} is no ONNX file: {error}. Export the model again, or fetch '
                          'the file again.') from error
    if others:
        raise ConfigError(f'{model} keeps weights in {", ".join(others[:3])}, which its checksum '
                          'does not cover; allowed is one file that holds them all. Write it by: '
                          'python3 -c "import onnx; '
                          f"onnx.save(onnx.load('{model.name}'), 'whole.onnx')\", and correct "
                          'file, size_bytes and sha256 in the card.')
