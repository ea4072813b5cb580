"""Search by condition among pictures without labels: what a folder holds, the prepared methods, and the results."""
