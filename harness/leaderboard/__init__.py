"""Leaderboards of the records."""
