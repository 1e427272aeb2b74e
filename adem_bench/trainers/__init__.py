"""Recipes, training loop, checkpoints: what makes an adapter."""
