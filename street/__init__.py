"""A synthetic drive: rendered camera frames of a street with exact labels."""

from .drive import SyntheticDrive
from .style import DISTRICTS

__all__ = ['DISTRICTS', 'SyntheticDrive']
