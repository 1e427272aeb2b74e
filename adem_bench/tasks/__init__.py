"""Benchmarks: each task knows its data, its prompts and its scoring, and no model."""
