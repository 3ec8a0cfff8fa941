"""The training pairs: images and label maps in memory, and the batches made from them."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seg_node.scoring.picture_file import read_picture

from .augment import Augmentation, NOT, VOID


class Pairs:
    """
    Images (H, W, 3) uint8 RGB with label maps (H, W) uint8, void = 255, held in memory.

    :param folder: has ``images`` and ``labels``, whose files share their names but for the end.
    :param classes: ids from this on are void, but for ``augment.NOT`` + id.
    :raises ConfigError: an image that cannot be read.
    :raises ValueError: nothing there, an image without labels, or sizes that differ.
    """

    def __init__(self, folder: Path, classes: int) -> None:
        self.images: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        paths = sorted(path for path in (folder / 'images').glob('*')
                       if path.suffix in ('.jpg', '.png') and not path.name.startswith('.'))
        if not paths:
            raise ValueError(f'{folder / "images"} has no .jpg or .png files: the folder must '
                             'hold `images` and `labels`')
        for path in paths:
            label_path = folder / 'labels' / f'{path.stem}.png'
            image, labels = read_picture(path), cv2.imread(str(label_path), -1)
            if labels is None or labels.shape != image.shape[:2]:
                raise ValueError(f'{path} and {label_path} must both be readable and of one size, '
                                 'the labels with one 8-bit channel')
            self.images.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            told = (labels < classes) | ((labels >= NOT) & (labels < NOT + classes))
            self.labels.append(np.where(told, labels, VOID).astype(np.uint8))

    def __len__(self) -> int:
        return len(self.images)

    def frequencies(self, classes: int) -> np.ndarray:
        """Return each class's share of the labelled pixels, (classes,) float64."""
        counts = sum(np.bincount(labels.ravel(), minlength=256)[:classes]
                     for labels in self.labels)
        return counts / counts.sum()


class EpochSamples(Dataset):
    """
    The augmented samples of one epoch.

    Each sample's random numbers follow from (seed, epoch, position) alone, so that a resumed run
    sees what an uninterrupted one would have seen.
    """

    def __init__(self, sources: list[tuple[Pairs, int]], augmentation: Augmentation, seed: int,
                 epoch: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """
        Draw the epoch's order.

        :param sources: data sets with the number of samples to take from each.
        """
        self._augmentation, self._key = augmentation, (seed, epoch)
        self._mean, self._std = np.float32(mean), np.float32(std)
        rng = np.random.default_rng([seed, epoch])
        picks = []
        for pairs, count in sources:
            rounds = [rng.permutation(len(pairs)) for _ in range(-(-count // len(pairs)))]
            picks += [(pairs, int(index)) for index in np.concatenate(rounds)[:count]]
        self._picks = [picks[index] for index in rng.permutation(len(picks))]

    def __len__(self) -> int:
        return len(self._picks)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        cv2.setNumThreads(0)
        rng = np.random.default_rng([*self._key, position])
        pairs, index = self._picks[position]
        donor = int(rng.integers(len(pairs)))
        image, labels = self._augmentation(
            rng, pairs.images[index], pairs.labels[index],
            pairs.images[donor], pairs.labels[donor])
        x = (image.astype(np.float32) - self._mean) / self._std
        return torch.from_numpy(x.transpose(2, 0, 1)), torch.from_numpy(labels.astype(np.int64))


def batches(samples: EpochSamples, size: int, workers: int) -> DataLoader:
    """Return the epoch's full batches: images (N, 3, h, w) float32, labels (N, h, w) int64."""
    return DataLoader(samples, size, shuffle=False, num_workers=workers, drop_last=True,
                      pin_memory=torch.cuda.is_available())


def letterboxed(pairs: Pairs, mean: tuple[float, ...], std: tuple[float, ...],
                multiple: int = 32) -> Iterator[tuple[Tensor, np.ndarray, tuple[slice, slice]]]:
    """
    Yield each image as the model's card wants it, its class ids, and where the image lies.

    Images keep their size; a grey border (0 after normalisation) fills up to the multiple.
    """
    for image, labels in zip(pairs.images, pairs.labels, strict=True):
        height, width = labels.shape
        top, left = (-height % multiple) // 2, (-width % multiple) // 2
        place = slice(top, top + height), slice(left, left + width)
        canvas = np.zeros((height + -height % multiple, width + -width % multiple, 3), np.float32)
        canvas[place] = (image.astype(np.float32) - np.float32(mean)) / np.float32(std)
        yield (torch.from_numpy(canvas.transpose(2, 0, 1))[None],
               np.where(labels < NOT, labels, np.uint8(VOID)), place)
