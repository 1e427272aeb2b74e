"""MME: two yes-or-no questions about each image."""
