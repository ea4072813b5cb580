"""Parts of methods: those that several use, and those that are too long for the method's own file."""
