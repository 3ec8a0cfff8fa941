"""How good a model is on labelled images, while it trains."""

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from seg_node.model.taxonomy import ClassTable
from seg_node.scoring.metrics import ConfusionMatrix

from .data import letterboxed, Pairs


@torch.no_grad()
def validate(model: nn.Module, pairs: Pairs, classes: ClassTable,
             device: torch.device) -> ConfusionMatrix:
    """Return the confusion matrix at the images' size, letterboxed as the card says."""
    model.eval()
    matrix = ConfusionMatrix(classes)
    samples = letterboxed(pairs, model.mean, model.std)
    for image, labels, place in tqdm(samples, 'val', total=len(pairs), leave=False,
                                     mininterval=10):
        image = image.to(device, memory_format=torch.channels_last)
        logits = functional.interpolate(model(image).float(), image.shape[-2:], mode='bilinear')
        matrix.add(labels, logits[0].argmax(0)[place].byte().cpu().numpy())
    return matrix
