"""What keeps it running: the device's thread from load to end, its mailbox, what watches it."""
