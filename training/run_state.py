"""All that a run must keep to be continued, and the smoothed weights it evaluates."""

import copy
import os
from pathlib import Path
import random

import numpy as np
import torch
from torch import nn


class Average:
    """
    An exponential moving average of a model's weights.

    :ivar model: the averaged model, in evaluation mode.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's weights; quickly in the beginning."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for mine, new in zip(self.model.state_dict().values(), model.state_dict().values(),
                             strict=True):
            if mine.is_floating_point():
                mine.lerp_(new, 1 - decay)
            else:
                mine.copy_(new)


def save(path: Path, state: dict) -> None:
    """Write a checkpoint with the random states; a broken run never leaves half a file."""
    state = state | {'random': {'python': random.getstate(), 'numpy': np.random.get_state(),
                                'torch': torch.get_rng_state(),
                                'cuda': torch.cuda.get_rng_state_all()}}
    partial = path.with_suffix('.partial')
    torch.save(state, partial)
    os.replace(partial, path)


def load(path: Path) -> dict:
    """Read a checkpoint written by ``save`` and set the random states."""
    # Own files: they hold random states, which the safe loader refuses.
    state = torch.load(path, map_location='cpu', weights_only=False)
    random.setstate(state['random']['python'])
    np.random.set_state(state['random']['numpy'])
    torch.set_rng_state(state['random']['torch'])
    if torch.cuda.is_available() and state['random']['cuda']:
        torch.cuda.set_rng_state_all(state['random']['cuda'])
    return state


def seed_all(seed: int) -> None:
    """Seed every random generator in use."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
