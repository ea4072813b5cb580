"""One method on one task, and the record that it leaves."""
