from functools import partial

from vlmeval.vlm import Parrot

supported_VLM = {  # noqa: N816
    "parrot": partial(Parrot, word="polly"),
    "broken": partial(Parrot, word=None),
}
