"""Scores as pure functions of predictions and references; no torch and no data files."""
