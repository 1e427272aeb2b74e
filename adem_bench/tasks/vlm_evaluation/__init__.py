"""Benchmarks of questions about images in their official files: those of vlm-evaluation."""
