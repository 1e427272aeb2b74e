"""Evaluation-first benchmark harness for ADEM-VL and efficient vision-language tuning."""

__version__ = "0.1.0"
