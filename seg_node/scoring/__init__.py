"""How good masks are, on data sets with true labels."""
