"""What the node sees, for people: shown and recorded by Rerun."""
