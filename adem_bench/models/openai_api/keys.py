"""Which key goes to which server, and that it goes nowhere else."""

from __future__ import annotations

import html
import json
import os
import re
from urllib.parse import quote, urlsplit

from adem_bench.errors import CardError
from adem_bench.models.openai_api.http_client import is_this_machine
from adem_bench.schemas import ModelCard

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_VARIABLE = "OPENAI_API_KEY"
NO_KEY = "none"
"""In place of a variable: no key is sent."""
HIDDEN = "***"
LEAST_SECRET = 6
LONG_WORD = 16
"""Characters; what is shorter than the first (`EMPTY`, `x`), or a plain word that is shorter than
the second (`ollama`), is what servers without keys ask for, and an answer may hold it."""


def find_key(card: ModelCard, variable: str, url: str, insecure: bool) -> str:
    """Return the key for a server, out of the environment; empty if it gets none.

    What a card says alone sends no key: the card may be a stranger's. A variable counts where the
    command line names it, and OPENAI_API_KEY also at OpenAI's own address and at one that the
    command line names.

    Args:
        card: The model's.
        variable: Its `options.key_variable`.
        url: The server's address.
        insecure: Its `options.insecure_key`.

    Raises:
        CardError: the variable holds no key, may not be used, or would be sent in the clear.
    """
    if variable == NO_KEY:
        return ""
    if not re.fullmatch("[A-Z_][A-Z0-9_]*", variable):
        # Not repeated in the message: it may be the key itself.
        raise CardError(
            f"model {card.name}: options.key_variable is the name of an environment variable, in "
            "capitals, or `none`; keys themselves stand in no card and no command"
        )
    named = card.is_given("options.key_variable")
    setting = f"--set model.options.key_variable={variable}"
    if variable != OPENAI_VARIABLE and not named:
        raise CardError(
            f"model {card.name}: its card asks for the key in ${variable}, which would go to "
            f"{url}; a card alone gets no key: add {setting} if that is meant (rerun: "
            f"--key-variable {variable}), or --set model.options.key_variable={NO_KEY} to send none"
        )
    key = os.environ.get(variable, "").strip()
    if not key and (variable != OPENAI_VARIABLE or url == OPENAI_URL):
        raise CardError(
            f"model {card.name}: the environment variable {variable} holds no key; set it, or "
            "name another one with --set model.options.key_variable=NAME"
        )
    if not (named or url == OPENAI_URL or card.is_given("options.source")):
        return ""
    if not re.fullmatch("[!-~]*", key):
        raise CardError(
            f"model {card.name}: what the environment variable {variable} holds is not a key: it "
            "has spaces, line breaks or other characters that no key has"
        )
    readable = urlsplit(url).scheme == "http" and not is_this_machine(url)
    if readable and not (insecure and card.is_given("options.insecure_key")):
        if named:
            raise CardError(
                f"model {card.name}: over plain http the key in ${variable} could be read on the "
                f"way to {url}; use https, or add --set model.options.insecure_key=true"
            )
        return ""  # A key that was set for somebody else does not cross a network in the clear.
    return key


class Redaction:
    """Takes a key out of texts that are kept: some servers repeat what they were sent."""

    def __init__(self, key: str) -> None:
        """Know the key in the forms in which JSON, web pages and addresses write it."""
        escaped = json.dumps(key)[1:-1]
        forms = {key, escaped, escaped.replace("/", "\\/"), html.escape(key), quote(key, safe="")}
        # The longest first: one form may be part of another.
        ordered = sorted(forms, key=len, reverse=True)
        is_word = key.isalpha() and len(key) < LONG_WORD
        ahead = "" if len(key) >= LEAST_SECRET and not is_word else "(?<=Bearer )"
        self._forms = re.compile(f"{ahead}(?:{'|'.join(map(re.escape, ordered))})") if key else None

    def hide(self, text: str) -> str:
        """Return a text with asterisks in place of the key."""
        return self._forms.sub(HIDDEN, text) if self._forms else text
