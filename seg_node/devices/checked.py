"""
Nothing is published that was not compared: a backend beside ONNX Runtime on the CPU.

What runs a network fast may run it wrong: reduced precision, a provider's fault at one size. So
before a size is used its labels on the shipped test pictures are compared with those of the
card's own file in ONNX Runtime on the CPU, and what comes out is kept in the cache.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
import hashlib
import json
import os
from pathlib import Path
import tempfile

import cv2
import numpy as np

from ..errors import BackendError, ConfigError, FrameError
from ..geometry import Geometry, Size
from ..model.card import ModelCard
from ..model.tensors import OutputSpec
from ..paths import cache_root, shared
from ..preprocess import Preprocessor
from .heads import read_head
from .segmenter import Backend

#: The least share of equal labels. Rounding moves borders between classes, a fault all of it.
LEAST_EQUAL = 0.99
#: The most that outputs may differ, root mean square, as a share of how much they vary. A fault
#: shows here even where all the pictures' pixels are of one class.
MOST_ERROR = 0.25


@dataclass(frozen=True)
class Agreement:
    """
    How far two backends say the same.

    :ivar equal: share of equal labels, of the output that agrees least.
    :ivar error: root mean square of the outputs' difference over their standard deviation.
    """

    equal: float
    error: float

    @property
    def good(self) -> bool:
        """Whether the one may stand for the other."""
        return self.equal >= LEAST_EQUAL and self.error <= MOST_ERROR

    def __str__(self) -> str:
        return f'{self.equal:.2%} equal labels, outputs off by {self.error:.1%} of their spread'


class CheckedBackend:
    """
    Runs a backend, each shape of the input only after its comparison; see ``Backend``.

    :param reference: opens the backend that is right, when it is needed.
    :param kept_as: what computes, with everything that could change its results: outcomes are
        kept under it from run to run; '' = they are not.
    :param pictures: BGR uint8 to compare on; None = those that are shipped.
    """

    def __init__(self, backend: Backend, card: ModelCard, reference: Callable[[], Backend],
                 kept_as: str = '', pictures: Sequence[np.ndarray] | None = None) -> None:
        self._backend, self._card, self._reference = backend, card, reference
        self._kept_as, self._pictures = kept_as, pictures
        self._good: set[tuple[int, ...]] = set()
        self.description, self.device = backend.description, backend.device
        self.max_batch = backend.max_batch

    def prepare(self, shape: tuple[int, ...]) -> None:
        """
        Compare at this shape, unless that was done before; see ``Backend.prepare``.

        :raises BackendError: its labels at this size are not those of the reference, too.
        """
        if shape not in self._good:
            self.check(shape)
        self._backend.prepare(shape)

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """Run the network; see ``Backend.run``."""
        self.prepare(tensor.shape)  # nothing is published that was not compared
        return self._backend.run(tensor)

    def close(self) -> None:
        """Free the network."""
        self._backend.close()

    def check(self, shape: tuple[int, ...]) -> None:
        """
        Compare for one shape of the input, unless that was done before.

        :raises BackendError: too few labels are equal.
        """
        pictures = test_pictures() if self._pictures is None else self._pictures
        key = self._key(shape, pictures)
        if not (self._kept_as and _kept(key)):
            found = self._compare(shape, pictures)
            if not found.good:
                raise BackendError(
                    f'{self.description} is not used for {self._card.name} at an input of shape '
                    f'{list(shape)}: {found} on {len(pictures)} test pictures, against ONNX '
                    f'Runtime on the CPU; wanted are at least {LEAST_EQUAL:.0%} and at most '
                    f'{MOST_ERROR:.0%}. Set precision to fp32, or backend to onnxruntime and '
                    'providers to [CPUExecutionProvider].')
            if self._kept_as:
                _keep(key, found)
        self._good.add(shape)

    def _key(self, shape: tuple[int, ...], pictures: Sequence[np.ndarray]) -> dict[str, object]:
        digest = hashlib.sha256(repr((self._card.input, self._card.outputs)).encode())
        for picture in pictures:
            digest.update(repr(picture.shape).encode() + picture.tobytes())
        return {'model': self._card.sha256, 'name': self._card.name, 'runs': self._kept_as,
                'shape': list(shape), 'cropped': True, 'card_and_pictures': digest.hexdigest()}

    def _compare(self, shape: tuple[int, ...], pictures: Sequence[np.ndarray]) -> Agreement:
        reference = self._reference()
        try:
            return compare(self._card, self._backend, reference, shape, pictures)
        finally:
            reference.close()


def compare(card: ModelCard, found: Backend, wanted: Backend, shape: tuple[int, ...],
            pictures: Sequence[np.ndarray]) -> Agreement:
    """
    Return how far two backends agree on pictures, for one shape of the network's input.

    :param shape: of the input, batch first: so many pictures go through ``found`` at once.
    :raises BackendError: one of them fails, or ``wanted`` gives what the card rules out.
    """
    sides = dict(zip(card.input.layout, shape, strict=True))
    batch, size = sides['N'], Size(sides['H'], sides['W'])
    pictures = [_of_shape(picture, size) for picture in pictures]
    geometry = Geometry(size, size, size, 0, 0, size)
    preprocessor = Preprocessor(card.input)
    tensors = [preprocessor.tensor([picture], [geometry]).copy() for picture in pictures]
    truths = [[output[0].copy() for output in wanted.run(tensor)] for tensor in tensors]
    results: list[list[np.ndarray]] = [[] for _ in tensors]
    for first in range(0, len(tensors), batch):
        chosen = [(first + n) % len(tensors) for n in range(batch)]
        outputs = found.run(np.concatenate([tensors[index] for index in chosen]))
        for n, index in enumerate(chosen):
            results[index] = [output[n].copy() for output in outputs]
    equal, error = 1.0, 0.0
    for n, spec in enumerate(card.outputs):
        ours, theirs = [result[n] for result in results], [truth[n] for truth in truths]
        equal = min(equal, _equal(spec, ours, theirs, geometry))
        if spec.kind != 'labels':  # a class id is no quantity
            error = max(error, _error(ours, theirs))
    return Agreement(equal, error)


def _of_shape(picture: np.ndarray, size: Size) -> np.ndarray:
    """
    Return the middle of a picture that has the proportions of a size.

    What is stretched to another shape is nothing the network knows: its labels are close
    decisions, which rounding moves.
    """
    height, width = picture.shape[:2]
    rows = min(height, max(1, round(width * size.height / size.width)))
    columns = min(width, max(1, round(height * size.width / size.height)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(picture[top:top + rows, left:left + columns])


def test_pictures() -> list[np.ndarray]:
    """Return the shipped pictures of streets, BGR uint8."""
    folder = shared('models', 'check')
    found = [cv2.imread(str(path)) for path in sorted(folder.glob('*.jpg'))]
    pictures = [picture for picture in found if picture is not None]
    if not found or len(pictures) < len(found):
        raise ConfigError(f'{folder} holds no pictures, or one that cannot be read. Reinstall the '
                          'package.')
    return pictures


def _equal(spec: OutputSpec, found: Sequence[np.ndarray], wanted: Sequence[np.ndarray],
           geometry: Geometry) -> float:
    """Return the share of equal labels; 0 for what no labels can be read of."""
    try:
        truths = [read_head(spec, values, geometry, False)[0] for values in wanted]
    except FrameError as error:
        raise BackendError(f'the model does not work on a test picture: {error}') from error
    try:
        labels = [read_head(spec, values, geometry, False)[0] for values in found]
    except FrameError:
        return 0.0
    return float(np.mean([a == b for a, b in zip(labels, truths, strict=True)]))


def _error(found: Iterable[np.ndarray], wanted: Iterable[np.ndarray]) -> float:
    ours = np.concatenate([values.ravel() for values in found]).astype(np.float64)
    theirs = np.concatenate([values.ravel() for values in wanted]).astype(np.float64)
    with np.errstate(invalid='ignore', over='ignore'):
        off = float(np.sqrt(np.mean((ours - theirs) ** 2)))
    # An output that hardly varies is measured by its size.
    spread = max(float(theirs.std()), 0.01 * float(np.sqrt(np.mean(theirs ** 2))), 1e-30)
    return off / spread if np.isfinite(off) else float('inf')


def _path(key: dict[str, object]) -> Path:
    text = json.dumps(key, sort_keys=True)
    return cache_root() / 'checks' / f'{hashlib.sha256(text.encode()).hexdigest()[:16]}.json'


def _kept(key: dict[str, object]) -> bool:
    """Return whether this comparison was made before and was good."""
    try:
        record = json.loads(_path(key).read_text(encoding='utf-8'))
        return record['key'] == key and Agreement(record['equal'], record['error']).good
    except (OSError, ValueError, KeyError, TypeError):  # none, or a damaged one: compare again
        return False


def _keep(key: dict[str, object], found: Agreement) -> None:
    path = _path(key)
    text = json.dumps({'equal': found.equal, 'error': found.error, 'key': key}, indent=1) + '\n'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile('w', dir=path.parent, delete=False) as scratch:
            scratch.write(text)
        os.replace(scratch.name, path)
    except OSError:  # a read-only home: then it is compared at every start
        return
