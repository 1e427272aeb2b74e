"""Readers of the official layouts: files become plain rows; no prompts, no scores, no torch."""
