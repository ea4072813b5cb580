"""Experiment trackers: what `conf/tracking` chooses."""
