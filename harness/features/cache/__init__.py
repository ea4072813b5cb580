"""Our own feature files: keyed by content, so that nothing is encoded twice."""
