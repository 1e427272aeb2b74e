"""ADEM-VL inside other harnesses: VLMEvalKit and lmms-eval.

Neither is imported before it is asked for, and neither is needed for anything else.
"""
