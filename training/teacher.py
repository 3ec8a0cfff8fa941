"""A finished model that teaches another one what it knows: all of its classes, or some of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn, Tensor
from torch.nn import functional

from seg_node.devices import backend as backends
from seg_node.model.card import load_card, ModelCard
from seg_node.model.tensors import OutputSpec


class Teacher:
    """
    The opinion of a model folder on images that are normalised for another network.

    Its classes need not be the student's: what it says of a *group* of them is compared with what
    the student says of another (``teach: {Road: [road, mark]}``); all other classes of each are
    one group more. It runs in ONNX Runtime, on the CPU in a third of torch's time, and so almost
    any model with a card can teach: of any layout, colour order, size and kind of output, but not
    one with windows or void.

    :ivar groups: (groups, classes of the student) float32, 1 where a class belongs to a group.
    """

    def __init__(self, folder: str, taxonomy: str, student: nn.Module, *, cuda: bool,
                 threads: int, teach: Mapping[str, Sequence[str]] | None = None,
                 classes: Sequence[str] = ()) -> None:
        """
        Load the model.

        :param folder: model folder, or the name of one in models/.
        :param taxonomy: name of the student's classes.
        :param teach: classes of the student, each with those of the teacher that it goes by;
            empty: the teacher has the student's classes and teaches all.
        :param classes: names of the student's classes, in the order of its channels.
        :raises ValueError: a model of other classes and no ``teach``, a class that one of them
            does not have, or one named twice; a model with windows or void.
        """
        card = load_card(folder)
        self._spec, self._head = card.input, card.main_output
        if self._spec.window or self._head.class_lut is not None:
            raise ValueError(f'{card.directory} cannot teach: its card has '
                             f'{"a window" if self._spec.window else "void channels or classes"}, '
                             'which training does not know. Take another teacher.')
        self._index = [output.name for output in card.outputs].index(self._head.name)
        provider = 'CUDAExecutionProvider' if cuda else 'CPUExecutionProvider'
        self._backend = backends.load('onnxruntime', card, providers=[provider], threads=threads)
        if teach:
            self._own, self.groups = _grouped(card, teach, classes)
        elif card.main_output.classes.name == taxonomy and _channels(self._head) > 2:
            self._own = self.groups = torch.eye(_channels(self._head))
        else:
            raise ValueError(f'{card.directory} cannot teach all of {taxonomy}: its classes are '
                             f'{card.main_output.classes.name}. Say in the recipe what it '
                             'teaches, e.g. teach: {Road: [road]}.')

        def shaped(values: tuple[float, ...]) -> Tensor:
            return torch.tensor(values)[:, None, None]
        self._to_pixels = shaped(student.std), shaped(student.mean)
        self._mean, self._std = shaped(self._spec.mean), shaped(self._spec.std)

    def __call__(self, images: Tensor) -> Tensor:
        """
        Return what it thinks of (N, 3, H, W) images.

        :return: (N, groups, h, w) float32 probabilities, at the teacher's own stride.
        """
        std, mean = self._to_pixels
        pixels = images.detach().cpu() * std + mean
        if self._spec.size is not None:
            pixels = functional.interpolate(pixels, self._spec.size, mode='bilinear')
        if self._spec.colour == 'bgr':
            pixels = pixels.flip(1)
        if self._spec.dtype == 'uint8':
            array = pixels.round().clamp(0, 255).to(torch.uint8).numpy()
        else:
            array = ((pixels * self._spec.scale - self._mean) / self._std).numpy()
            array = array.astype(self._spec.dtype)
        if self._spec.layout == 'NHWC':
            array = array.transpose(0, 2, 3, 1)
        scores = self._run(np.ascontiguousarray(array))
        return torch.einsum('gc,nchw->nghw', self._own, scores).to(images.device)

    def _run(self, array: np.ndarray) -> Tensor:
        """Return (N, classes of the teacher, h, w) float32 probabilities."""
        found = torch.from_numpy(np.asarray(self._backend.run(array)[self._index]))
        if self._head.kind == 'labels':
            ids = found.reshape(found.shape[0], *found.shape[-2:]).long()
            return functional.one_hot(ids, _channels(self._head)).permute(0, 3, 1, 2).float()
        scores = found.float()
        if self._head.layout == 'NHWC':
            scores = scores.permute(0, 3, 1, 2)
        if self._head.kind == 'logits':
            return scores.softmax(1)
        if self._head.kind == 'sigmoid':
            one = scores.sigmoid() if self._head.activation == 'raw' else scores
            return torch.cat([1 - one, one], 1)
        return scores / scores.sum(1, keepdim=True).clamp_min(1e-6)


def _channels(head: OutputSpec) -> int:
    return 2 if head.kind == 'sigmoid' else len(head.classes)


def _grouped(card: ModelCard, teach: Mapping[str, Sequence[str]],
             classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return (groups, classes) of the teacher and of the student; the last group is the rest."""
    theirs = list(card.main_output.classes.names)
    own = torch.zeros(len(teach) + 1, len(theirs))
    students = torch.zeros(len(teach) + 1, len(classes))
    for row, (name, sources) in enumerate(teach.items()):
        for wanted, known, table in (([name], list(classes), students), (sources, theirs, own)):
            for one in wanted:
                if one not in known:
                    raise ValueError(f'teach: there is no class {one!r}; there are '
                                     f'{", ".join(known)}. Write it as it is there.')
                if table[:, known.index(one)].any():
                    raise ValueError(f'teach: {one!r} is named twice; a class can be in one '
                                     'group only.')
                table[row, known.index(one)] = 1
    for table in (own, students):
        table[-1] = 1 - table[:-1].sum(0)
    return own, students
