"""One run: a method on a task, and the record that it writes."""
