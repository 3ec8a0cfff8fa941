"""The networks, by the name that commands and checkpoints use."""

from torch import nn

from .bisenetv2 import BiSeNetV2
from .deeplab import DeepLabV3Plus

NAMES = ('deeplab', 'bisenetv2')


def build(name: str, classes: int, *, pretrained: bool) -> nn.Module:
    """
    Return a network whose forward gives [logits, *auxiliary logits] while it trains, else logits.

    :param pretrained: start the backbone from ImageNet weights, where there is one.
    """
    if name == 'deeplab':
        return DeepLabV3Plus(classes, pretrained=pretrained)
    if name == 'bisenetv2':
        return BiSeNetV2(classes)
    raise ValueError(f'model {name!r} is unknown; allowed: {", ".join(NAMES)}')
