"""Methods: each a way of letting a frozen language model see, whole in one file."""
