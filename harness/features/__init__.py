"""Features: the open_clip encoder, our cache, and feature files that others publish."""
