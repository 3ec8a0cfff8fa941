"""Message bytes to BGR images."""
