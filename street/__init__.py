"""A synthetic drive: rendered camera frames of a street with exact labels."""

from .drive import DriveFrame, SyntheticDrive
from .style import DISTRICTS

__all__ = ['DISTRICTS', 'DriveFrame', 'SyntheticDrive']
