"""Other tasks made from a task: with fewer queries, without some images, in other words."""
