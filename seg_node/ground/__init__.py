"""Cameras and the ground they see."""
