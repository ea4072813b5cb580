"""Features that others publish as files."""
