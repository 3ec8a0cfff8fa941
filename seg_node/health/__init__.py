"""What is known about the streams and the node, and what to say about it."""
