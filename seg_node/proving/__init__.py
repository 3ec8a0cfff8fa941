"""What ``gpu_check`` proves a machine's GPU by; the node never imports it."""
