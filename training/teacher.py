"""A finished model that teaches another one: its logits are soft labels for every image."""

import torch
from torch import nn, Tensor

from seg_node.devices import backend as backends
from seg_node.model.card import load_card


class Teacher:
    """
    The logits of a model folder for images that are normalised for another network.

    It runs in ONNX Runtime, on the CPU in a third of torch's time, and so any model with a card
    can teach.
    """

    def __init__(self, folder: str, taxonomy: str, student: nn.Module, *, cuda: bool,
                 threads: int) -> None:
        """
        Load the model.

        :param folder: model folder, or the name of one in models/.
        :param taxonomy: name of the classes to be taught.
        :raises ValueError: a model of other classes, or whose input or output does not fit.
        """
        card = load_card(folder)
        source, head = card.input, card.main_output
        found = {'classes': head.classes.name, 'output': head.kind, 'layout': source.layout,
                 'colour': source.colour}
        wanted = {'classes': taxonomy, 'output': 'logits', 'layout': 'NCHW', 'colour': 'rgb'}
        if found != wanted:
            raise ValueError(f'{card.directory} cannot teach: it has {found}, needed is {wanted}')
        provider = 'CUDAExecutionProvider' if cuda else 'CPUExecutionProvider'
        self._backend = backends.load('onnxruntime', card, providers=[provider], threads=threads)

        def shaped(values: tuple[float, ...]) -> Tensor:
            return torch.tensor(values)[:, None, None]
        deviation = shaped(source.std) / source.scale
        self._gain = shaped(student.std) / deviation
        self._offset = (shaped(student.mean) - shaped(source.mean) / source.scale) / deviation

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 logits for (N, 3, H, W) images, at the teacher's own stride."""
        pixels = images.detach().cpu() * self._gain + self._offset
        logits = self._backend.run(pixels.contiguous().numpy())[0]
        return torch.from_numpy(logits).to(images.device)
