"""What runs the network: the seam, the host's segmenter, and the choice of one."""
