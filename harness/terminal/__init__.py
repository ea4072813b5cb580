"""What a user sees on the terminal: text, progress, the options of small commands."""
