"""Finished runs in one table: which rows and columns, in which order, in which format."""
