"""The frame of fused models: a frozen language model and a frozen vision tower, and a method."""
