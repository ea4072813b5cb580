"""The read side: records in, leaderboards, comparisons, plots and the report out."""
