"""A synthetic drive: rendered camera frames of a street with exact labels."""

from .drive import DriveFrame, SyntheticDrive

__all__ = ['DriveFrame', 'SyntheticDrive']
