"""Training recipes for the models that ship with seg_node; a development tool only."""
