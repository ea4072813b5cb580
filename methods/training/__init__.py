"""Training of the methods that have weights."""
