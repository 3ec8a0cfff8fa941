"""Whole archives of recordings: labelled on many machines by the node's pipeline, and searched."""
