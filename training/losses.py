"""What training minimises."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .augment import NOT, VOID


def class_weights(frequencies: np.ndarray, power: float) -> Tensor:
    """
    Return (classes,) float32 weights (median frequency / frequency) ** power.

    1 is full balancing, which buys recall of the rare classes with the IoU of those beside them;
    0 is none.
    """
    present = frequencies[frequencies > 0]
    weights = (np.median(present) / np.maximum(frequencies, present.min())) ** power
    return torch.tensor(weights, dtype=torch.float32)


def lovasz(scores: Tensor, labels: Tensor) -> Tensor:
    """
    Lovasz-softmax (Berman et al. 2018) over the classes that occur: a loss that follows the IoU.

    :param scores: (pixels, classes) probabilities.
    :param labels: (pixels,) ids, none of them void.
    """
    losses = []
    for index in torch.unique(labels):
        truth = (labels == index).float()
        errors, order = torch.sort((truth - scores[:, index]).abs(), descending=True)
        truth = truth[order]
        remaining = truth.sum() - truth.cumsum(0)
        jaccard = 1 - remaining / (truth.sum() + (1 - truth).cumsum(0))
        gradient = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        losses.append(errors @ gradient)
    return torch.stack(losses).mean()


class SegmentationLoss:
    """
    Cross-entropy and Lovasz-softmax of the logits at the labels' size, and auxiliary heads.

    A pixel labelled ``NOT`` + id costs -log(1 - probability of that class): a complementary label.

    :param weights: class weights of the cross-entropy.
    :param auxiliary: weight of each auxiliary head, cross-entropy only.
    :param pixels: how many pixels of a batch the Lovasz term looks at; it sorts them.
    """

    def __init__(self, weights: Tensor, *, auxiliary: float, lovasz_weight: float = 0.5,
                 pixels: int = 60_000) -> None:
        self._weights, self._auxiliary = weights, auxiliary
        self._lovasz_weight, self._pixels = lovasz_weight, pixels

    def __call__(self, outputs: list[Tensor], labels: Tensor) -> Tensor:
        main, *others = outputs
        logits = functional.interpolate(main.float(), labels.shape[-2:], mode='bilinear')
        loss = self._cross_entropy(logits, labels)
        known = (labels.flatten() < NOT).nonzero()[:, 0]
        if len(known) and self._lovasz_weight:
            some = known[torch.randint(len(known), (self._pixels,), device=known.device)]
            flat = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])[some]
            loss = loss + self._lovasz_weight * lovasz(flat.softmax(1), labels.flatten()[some])
        for other in others:
            # Their stride is coarse; labels picked at it cost little and teach as much.
            small = functional.interpolate(labels[:, None].float(), other.shape[-2:])[:, 0].long()
            loss = loss + self._auxiliary * self._cross_entropy(other.float(), small)
        return loss

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over labelled pixels; where only one class is ruled out, of its loss."""
        known, weights = labels < NOT, self._weights
        total = functional.cross_entropy(logits, labels.where(known, VOID), weights,
                                         ignore_index=VOID, reduction='sum')
        count = weights[labels[known]].sum()
        ruled_out = ~known & (labels != VOID)
        if ruled_out.any():
            scores = logits.permute(0, 2, 3, 1)[ruled_out]
            wrong = functional.one_hot(labels[ruled_out] - NOT, logits.shape[1]).bool()
            others = scores.masked_fill(wrong, -torch.inf).logsumexp(1)
            total = total + (scores.logsumexp(1) - others).sum()
            count = count + len(scores)
        return total / count.clamp_min(1)


def distillation(student: Tensor, teacher: Tensor, groups: Tensor) -> Tensor:
    """
    Return the mean KL divergence of the student from the teacher, at the teacher's stride.

    :param student: (N, classes, H, W) logits.
    :param teacher: (N, groups, h, w) probabilities.
    :param groups: (groups, classes) 1 where a class belongs to a group: what the student gives a
        group is the sum over its classes.
    """
    student = functional.interpolate(student.float(), teacher.shape[-2:], mode='bilinear')
    members = groups.to(student.device).bool()
    grouped = torch.stack([student[:, row].logsumexp(1) for row in members], 1)
    # Where a group has no class nothing can be learned about it, nor said.
    grouped = grouped - student.logsumexp(1, keepdim=True)
    divergence = torch.xlogy(teacher, teacher) - teacher * grouped
    return divergence[:, members.any(1)].sum(1).mean()
