"""ADEM-VL on transformers' LLaMA and open_clip's ViT (arXiv 2410.17779)."""
