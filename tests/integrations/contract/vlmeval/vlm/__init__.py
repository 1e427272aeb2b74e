import os

# It takes seconds, and no data set needs it: a test may go without.
if "STAND_IN_WITHOUT_TORCH" not in os.environ:
    import torch

    torch.set_grad_enabled(False)
    torch.manual_seed(1234)

from .base import BaseModel


class Parrot(BaseModel):
    def __init__(self, word):
        super().__init__()
        if word is None:
            raise OSError("no weights")
        self.word = word

    def generate_inner(self, message, dataset=None):
        assert not torch.is_grad_enabled()
        kinds = "".join(item["type"][0] for item in message)
        text = message[-1]["value"]
        if text == "crash":
            raise ValueError("crashed")
        if text == "fail":
            return "Failed to obtain answer via API."
        return f"{self.word} {dataset} {kinds} {text}"
