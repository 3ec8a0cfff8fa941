"""
Start from the weights of an exported model.

In an ONNX file batch normalisation is folded into the convolutions, so there is nothing left of
its scale to train with. It is won back by measuring: each layer's outputs over training images
give the mean and variance that batch normalisation will take away, and its weight and bias are
then set to give them back. The network computes the same as before and can train on.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
import torch
from torch import nn, Tensor

Pairs = list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]


def load_onnx(model: nn.Module, path: Path, images: list[Tensor]) -> None:
    """
    Fill the model from an exported file of the same architecture.

    :param images: batches of normalised training images, to measure on; some 8 batches of 8.
    :raises ValueError: when the file has other layers.
    """
    convolutions, lone_norms = _execution_order(model, images[0][:2])
    graph = onnx.load(str(path)).graph
    convolutions = _copy(graph, convolutions, path)
    _copy_norms(graph, lone_norms, path)
    hooks = [norm.register_forward_hook(_Measure()) for _, norm in convolutions
             if norm is not None]
    measures = [list(norm._forward_hooks.values())[-1] for _, norm in convolutions
                if norm is not None]
    model.eval()
    with torch.no_grad():
        for batch in images:
            model(batch)
    for hook in hooks:
        hook.remove()
    norms = [norm for _, norm in convolutions if norm is not None]
    for norm, measure in zip(norms, measures, strict=True):
        measure.apply(norm)


class _Measure:
    """A forward hook that gathers mean and variance of what goes into a layer."""

    def __init__(self) -> None:
        self.sums: list[tuple[Tensor, Tensor]] = []

    def __call__(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        x = inputs[0].double()
        self.sums.append((x.mean((0, 2, 3)), (x * x).mean((0, 2, 3))))

    def apply(self, norm: nn.BatchNorm2d) -> None:
        """Let the layer take the measured statistics away and give them back."""
        mean = torch.stack([first for first, _ in self.sums]).mean(0)
        square = torch.stack([second for _, second in self.sums]).mean(0)
        variance = (square - mean * mean).clamp_min(1e-8)
        with torch.no_grad():
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            # bias holds the folded bias until now; weight is still neutral.
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.add_(mean.to(norm.bias.dtype))


def _execution_order(model: nn.Module, images: Tensor) -> tuple[Pairs, list[nn.BatchNorm2d]]:
    """
    Return the layers in the order in which they run.

    :return: the convolutions, each with its batch norm, and the norms that follow none.
    """
    ran: list[nn.Module] = []
    hooks = [module.register_forward_hook(lambda module, _, __: ran.append(module))
             for module in model.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    model.eval()
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    pairs: Pairs = []
    lone: list[nn.BatchNorm2d] = []
    for index, module in enumerate(ran):
        if isinstance(module, nn.Conv2d):
            follower = ran[index + 1] if index + 1 < len(ran) else None
            pairs.append((module, follower if isinstance(follower, nn.BatchNorm2d) else None))
        elif not index or not isinstance(ran[index - 1], nn.Conv2d):
            lone.append(module)
    return pairs, lone


def _copy(graph: onnx.GraphProto, convolutions: Pairs, path: Path) -> Pairs:
    """Fill the convolutions and return those; the model may go on where the file ends."""
    tensors = _tensors(graph)
    nodes = [node for node in graph.node if node.op_type == 'Conv']
    if len(nodes) > len(convolutions):
        raise ValueError(f'{path} has {len(nodes)} convolutions, the network to fill has '
                         f'{len(convolutions)}: they are of different architectures')
    filled = convolutions[:len(nodes)]
    for node, (convolution, norm) in zip(nodes, filled, strict=True):
        weight = tensors[node.input[1]]
        if weight.shape != tuple(convolution.weight.shape):
            raise ValueError(f'{path}: {node.name} is {weight.shape}, the network to fill has '
                             f'{tuple(convolution.weight.shape)} there')
        target = convolution.bias if norm is None else norm.bias
        bias = tensors[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight))
        if target is None and bias.any():
            raise ValueError(f'{path}: {node.name} has a bias, the network to fill has none there')
        with torch.no_grad():
            convolution.weight.copy_(torch.from_numpy(weight.copy()))
            if target is not None:
                target.copy_(torch.from_numpy(bias.copy()))
            if norm is not None:
                norm.running_mean.zero_()
                norm.running_var.fill_(1 - norm.eps)
                norm.weight.fill_(1)
    return filled


def _copy_norms(graph: onnx.GraphProto, norms: list[nn.BatchNorm2d], path: Path) -> None:
    """Fill the norms that are not folded into a convolution, as their input comes from none."""
    tensors = _tensors(graph)
    nodes = [node for node in graph.node if node.op_type == 'BatchNormalization']
    if len(nodes) != len(norms):
        raise ValueError(f'{path} has {len(nodes)} batch normalisations, the network to fill has '
                         f'{len(norms)}: they are of different architectures')
    for node, norm in zip(nodes, norms, strict=True):
        targets = norm.weight, norm.bias, norm.running_mean, norm.running_var
        with torch.no_grad():
            for name, target in zip(node.input[1:5], targets, strict=True):
                target.copy_(torch.from_numpy(tensors[name].copy()))


def _tensors(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
