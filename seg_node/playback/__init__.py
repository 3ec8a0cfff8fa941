"""Recordings in and out: bags, videos, folders, the player and the recorder."""
