"""Where figures go besides the files of a run: TensorBoard, Weights & Biases, MLflow; no torch.

Each logger is the service's own package, imported when it is asked for (`--log-to`).
"""
