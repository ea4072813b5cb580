"""The settings of a command line: read, composed with Hydra, checked, explained."""
