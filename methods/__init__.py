"""One file a method (or a close family), and beside them what several methods share."""
