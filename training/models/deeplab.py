"""
DeepLabV3+ (Chen et al. 2018) on EfficientNet-Lite0, made light with separable convolutions.

One thing is added to the paper's decoder: a narrow third step that corrects the logits at stride
2, where poles and signs are still more than a pixel wide. It sees the logits it corrects, so that
it knows which borders to move.
"""

import torch
from torch import nn, Tensor
from torch.nn import functional

from .efficientnet_lite import CHANNELS, EfficientNetLite0

WIDTH, FINE_WIDTH = 128, 32
RATES = (4, 8, 12)


def conv(inputs: int, outputs: int, kernel: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU6."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
                         nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


def separable(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    """3x3 depthwise convolution with batch norm, then ``conv``."""
    return nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=dilation, dilation=dilation,
                                   groups=inputs, bias=False),
                         nn.BatchNorm2d(inputs), *conv(inputs, outputs))


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Resize bilinearly to the height and width of another tensor."""
    return functional.interpolate(x, size=like.shape[-2:], mode='bilinear', align_corners=False)


class DeepLabV3Plus(nn.Module):
    """
    Input (N, 3, H, W), RGB, (x - 127) / 128, sides a multiple of 32 -> logits at stride 2.

    While training: [logits, auxiliary logits at stride 16].
    """

    mean, std = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
    stride = 2

    def __init__(self, classes: int, *, pretrained: bool) -> None:
        super().__init__()
        fine, low, middle, auxiliary, deep = CHANNELS
        self.backbone = EfficientNetLite0(pretrained=pretrained)
        self.pool = conv(deep, WIDTH)
        self.point = conv(deep, WIDTH)
        self.pyramid = nn.ModuleList(
            nn.Sequential(conv(deep, WIDTH), *separable(WIDTH, WIDTH, rate)) for rate in RATES)
        self.project = conv(WIDTH * (2 + len(RATES)), WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.skip8 = conv(middle, 48)
        self.decode8 = separable(WIDTH + 48, WIDTH)
        self.skip4 = conv(low, 32)
        self.decode4 = nn.Sequential(*separable(WIDTH + 32, WIDTH), *separable(WIDTH, WIDTH))
        self.classify = nn.Conv2d(WIDTH, classes, 1)
        self.narrow = conv(WIDTH, FINE_WIDTH)
        self.decode2 = nn.Sequential(*conv(FINE_WIDTH + fine + classes, FINE_WIDTH, kernel=3),
                                     *separable(FINE_WIDTH, FINE_WIDTH))
        self.correct = nn.Conv2d(FINE_WIDTH, classes, 1)
        # Training starts from the coarser logits as they are.
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)
        self.auxiliary = nn.Sequential(conv(auxiliary, WIDTH), nn.Conv2d(WIDTH, classes, 1))

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        fine, low, middle, auxiliary, deep = self.backbone(image)
        pooled = self.pool(deep.mean((2, 3), keepdim=True)).expand(-1, -1, *deep.shape[-2:])
        x = torch.cat([self.point(deep), *(branch(deep) for branch in self.pyramid), pooled], 1)
        x = self.dropout(self.project(x))
        x = self.decode8(torch.cat([resized(x, middle), self.skip8(middle)], 1))
        x = self.decode4(torch.cat([resized(x, low), self.skip4(low)], 1))
        logits = resized(self.classify(x), fine)
        x = self.decode2(torch.cat([resized(self.narrow(x), fine), fine, logits], 1))
        logits = logits + self.correct(x)
        return [logits, self.auxiliary(auxiliary)] if self.training else logits

    def hold_norms(self) -> None:
        """
        Keep the batch norm statistics of the backbone and of the pool.

        The pool has one value an image: those of a small batch say little.
        """
        self.backbone.eval()
        self.pool.eval()

    def slow_parameters(self) -> list[nn.Parameter]:
        """Return what is trained already and so learns more slowly."""
        return list(self.backbone.parameters())

    def fast_parameters(self) -> list[nn.Parameter]:
        """
        Return what has far to go.

        Adam moves a weight by no more than its rate a step, and the correction must grow from 0 to
        the size of the logits that it overrules.
        """
        return list(self.correct.parameters())
