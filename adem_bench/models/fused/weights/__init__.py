"""Weights on disk: reading them, writing them, and from one layout to another."""
