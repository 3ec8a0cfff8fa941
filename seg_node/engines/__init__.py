"""The factory of TensorRT engines; the node never imports it."""
