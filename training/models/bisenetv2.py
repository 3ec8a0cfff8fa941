"""BiSeNetV2 (Yu et al. 2021): a detail and a semantic branch, joined by guided aggregation."""

import torch
from torch import nn, Tensor
from torch.nn import functional


def conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(*linear(inputs, outputs, stride, kernel), nn.ReLU(inplace=True))


def linear(inputs: int, outputs: int, stride: int = 1, kernel: int = 3,
           groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups,
                                   bias=False), nn.BatchNorm2d(outputs))


class Stem(nn.Module):
    """Shrinks by 4 in two ways at once."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3, 16, 2)
        self.left = nn.Sequential(conv(16, 8, kernel=1), conv(8, 16, 2))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.fuse = conv(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.fuse(torch.cat([self.left(x), self.pool(x)], 1))


class GatherExpand(nn.Module):
    """The semantic branch's block: gathers with a depthwise expansion, then projects."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = inputs * 6
        layers = [conv(inputs, inputs)]
        if stride == 2:
            layers += [linear(inputs, wide, 2, groups=inputs),
                       linear(wide, wide, groups=wide), nn.ReLU(inplace=True)]
            self.shortcut = nn.Sequential(linear(inputs, inputs, 2, groups=inputs),
                                          linear(inputs, outputs, kernel=1))
        else:
            layers += [linear(inputs, wide, groups=inputs), nn.ReLU(inplace=True)]
            self.shortcut = nn.Identity()
        self.body = nn.Sequential(*layers, linear(wide, outputs, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class Context(nn.Module):
    """Adds what the whole image says to every place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.gather = conv(channels, channels, kernel=1)
        self.fuse = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(x + self.gather(self.norm(x.mean((2, 3), keepdim=True))))


class Aggregation(nn.Module):
    """Each branch gates the other, at its own scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        def gated() -> nn.Sequential:
            return nn.Sequential(linear(channels, channels, groups=channels),
                                 nn.Conv2d(channels, channels, 1, bias=False))
        self.detail = gated()
        self.detail_small = nn.Sequential(linear(channels, channels, 2), nn.AvgPool2d(3, 2, 1))
        self.semantic = gated()
        self.semantic_large = linear(channels, channels)
        self.fuse = conv(channels, channels)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        def large(x: Tensor) -> Tensor:
            return functional.interpolate(x, detail.shape[-2:], mode='bilinear')
        small, gate = self.detail_small(detail), large(self.semantic_large(semantic)).sigmoid()
        fine = self.detail(detail) * gate
        coarse = small * self.semantic(semantic).sigmoid()
        return self.fuse(fine + large(coarse))


def head(inputs: int, wide: int, classes: int) -> nn.Sequential:
    """3x3 convolution, dropout, classifier."""
    return nn.Sequential(conv(inputs, wide), nn.Dropout(0.1), nn.Conv2d(wide, classes, 1))


class BiSeNetV2(nn.Module):
    """
    Input (N, 3, H, W), RGB with ImageNet's mean and deviation, sides a multiple of 32 -> logits
    at stride 8.

    While training: [logits, four booster heads' logits at stride 4, 8, 16 and 32].
    """

    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    stride = 8

    def __init__(self, classes: int, width: int = 256) -> None:
        super().__init__()
        self.detail = nn.Sequential(
            conv(3, 64, 2), conv(64, 64), conv(64, 64, 2), conv(64, 64), conv(64, 64),
            conv(64, 128, 2), conv(128, 128), conv(128, 128))
        self.stem = Stem()
        self.stage3 = nn.Sequential(GatherExpand(16, 32, 2), GatherExpand(32, 32, 1))
        self.stage4 = nn.Sequential(GatherExpand(32, 64, 2), GatherExpand(64, 64, 1))
        self.stage5 = nn.Sequential(GatherExpand(64, 128, 2),
                                    *(GatherExpand(128, 128, 1) for _ in range(3)))
        self.context = Context(128)
        self.aggregation = Aggregation(128)
        self.head = head(128, width, classes)
        self.boosters = nn.ModuleList(head(channels, width // 4, classes)
                                      for channels in (16, 32, 64, 128))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        detail = self.detail(image)
        features = [self.stem(image)]
        for stage in (self.stage3, self.stage4, self.stage5):
            features.append(stage(features[-1]))
        logits = self.head(self.aggregation(detail, self.context(features[-1])))
        if not self.training:
            return logits
        return [logits, *(boost(x) for boost, x in zip(self.boosters, features, strict=True))]
