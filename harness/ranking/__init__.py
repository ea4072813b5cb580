"""Scores to ranks to metrics."""
