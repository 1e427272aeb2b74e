"""Runs as one page that a person reads, and its plots as files."""
