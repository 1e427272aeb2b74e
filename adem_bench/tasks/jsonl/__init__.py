"""Data sets of the user's own: rows in a file, described by a card alone."""
