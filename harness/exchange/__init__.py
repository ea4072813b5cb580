"""What is exchanged with other programs and people: rankings, and bundles of records."""
