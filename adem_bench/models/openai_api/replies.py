"""What a server's reply with status 200 says: an answer, why there is none, or an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adem_bench.models.openai_api.bodies import Hide, clean, decoded, is_page, parsed
from adem_bench.models.openai_api.refusals import error_text, means_success, status_of, words_of
from adem_bench.prompts import whole
from adem_bench.records import FinishReason

FINISH_REASONS: Mapping[FinishReason, tuple[str, ...]] = {
    "stop": ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"),
    "length": ("length", "max_tokens", "max_output_tokens", "max_length", "model_length"),
    "filter": (
        "content_filter", "filter", "safety", "refusal", "blocked", "recitation", "blocklist",
        "prohibited_content", "spii", "sensitive",
    ),
    "error": ("error", "abort", "aborted", "network_error", "insufficient_system_resource"),
}  # fmt: skip
"""How servers say that an answer ended, in lower case."""
REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thoughts")
"""Keys of a message under which its reasoning stands."""
RAISE_TOKENS = "raise options.max_new_tokens (--max-new-tokens of `ask`)"
END_TOKENS = re.compile(
    r"</s>|<\|im_end\|>|<\|endoftext\|>|<\|eot_id\|>|<\|eom_id\|>|<\|eot\|>|<\|end_of_text\|>"
    r"|<end_of_turn>|<end_of_utterance>|<\|END_OF_TURN_TOKEN\|>|<\|endofturn\|>|<\|return\|>|<eos>"
    r"|<\uff5cend\u2581of\u2581sentence\uff5c>|<\|end\|>(?!\s*<\|start\|>)"
)
"""What servers leave in the text where they do not know their model's end token. `<|end|>` before
`<|start|>` ends one of several messages, not the answer."""
BEGIN_TOKENS = re.compile(
    r"(?:\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|im_start\|>assistant\s"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>|<start_of_turn>model\s))+\s*"
)


class MalformedError(Exception):
    """A reply that is not what the interface promises; the next one may be."""


class UnansweredError(Exception):
    """A whole reply that holds no answer; the next one would not either."""

    def __init__(self, reason: str, finish_reason: FinishReason = "") -> None:
        """Keep why there is none.

        Args:
            reason: With the remedy, where there is one.
            finish_reason: How the reply ended.
        """
        super().__init__(reason)
        self.finish_reason = finish_reason


class RefusedError(Exception):
    """An error in a reply whose status says that all is well."""

    def __init__(self, status: int, words: str) -> None:
        """Keep what the server says.

        Args:
            status: Of HTTP, that the error amounts to; 0 if it does not say.
            words: The server's.
        """
        super().__init__(f"the reply is an error{f' ({status})' if status else ''}: {words}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer."""

    text: str
    """Without reasoning that the server keeps apart, and cut at the end token."""
    tokens: tuple[int, int] | None
    """Of prompt and answer, if the server counts them."""
    model: str
    """The model that the server says has answered."""
    finish_reason: FinishReason = ""
    """`stop`, `length`, `filter`, `error`; empty where the server says none of them."""
    reasoning: str = ""
    """What the server keeps apart from the answer."""


def read_answer(raw: bytes, hide: Hide = str) -> Answer:
    """Return what a server answered.

    Args:
        raw: The body of a reply with status 200.
        hide: Applied to all text that is kept.

    Raises:
        MalformedError: it is not JSON, or has no choice with text.
        UnansweredError: all tokens went into reasoning, or a filter withheld the answer.
        RefusedError: it is an error.
    """
    try:
        found = parsed(raw, hide)
    except (ValueError, RecursionError) as error:
        raise _not_json(decoded(raw), error_text(raw, hide)) from error
    first = found[0] if isinstance(found, list) and found else found
    answer = first if isinstance(first, dict) else {}
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    _check_error(answer, choice)
    if not isinstance(choice, dict):
        raise MalformedError("the answer has no choice")
    return Answer(
        hide(_said(choice, answer.get("usage"))),
        _tokens(answer.get("usage")),
        clean(str(answer.get("model", ""))),
        _finish_reason(choice),
        hide(_reasoning(choice.get("message"))),
    )


def _not_json(text: str, words: str) -> Exception:
    if is_page(text):
        return UnansweredError(
            f"the answer is a web page, not JSON: {words}; check the address, and whether it needs "
            "a login"
        )
    begun = text.lstrip("\ufeff \t\r\n").startswith(("{", "["))
    return MalformedError("the answer is not JSON" + ("" if begun or not words else f": {words}"))


def _check_error(answer: Mapping[str, Any], choice: Any) -> None:
    """Look for an error next to the choice, inside it, or in its place.

    Raises:
        RefusedError: there is one.
    """
    inside = choice.get("error") if isinstance(choice, dict) else None
    for error in (inside, answer.get("error"), answer if choice is None else None):
        words = words_of(error)
        if words and not means_success(error):
            raise RefusedError(status_of(error) or status_of(answer), clean(words))


def _finish_reason(choice: Mapping[str, Any]) -> FinishReason:
    said = str(choice.get("finish_reason") or "").lower()
    return next((reason for reason, names in FINISH_REASONS.items() if said in names), "")


def _said(choice: Mapping[str, Any], usage: Any) -> str:
    """Return the text of a choice.

    Raises:
        MalformedError: there is none, and the next reply may have one.
        UnansweredError: there is none, and it says why.
    """
    message = choice.get("message")
    found: Mapping[str, Any] = message if isinstance(message, dict) else {}
    text, thought = _text(found.get("content"))
    for other in (choice.get("text"), message, found.get("refusal") or None):
        if text is None and isinstance(other, str):
            text = other
    reason = clean(str(choice.get("finish_reason")))
    finish = _finish_reason(choice)
    if finish == "error":
        raise MalformedError(f"the server broke the answer off (finish_reason {reason})")
    if text is None or not text.strip():
        reasoned = thought or any(found.get(name) for name in REASONING) or _reasoning_tokens(usage)
        _check_ending(finish, reason, bool(reasoned))
        if found.get("tool_calls") or found.get("function_call"):
            raise UnansweredError("the answer calls a tool in place of saying something")
    if text is None:
        raise MalformedError(f"the answer's choice has no text (finish_reason {reason})")
    return _bare(text)


def _check_ending(finish: FinishReason, reason: str, reasoned: bool) -> None:
    """Say why a reply without text has none, where it is known.

    Args:
        finish: How it ended, in our words.
        reason: The same in the server's.
        reasoned: Whether there was reasoning.

    Raises:
        UnansweredError: it is known.
    """
    if finish == "filter":
        raise UnansweredError(f"a filter withheld the answer (finish_reason {reason})", finish)
    if finish == "length":
        spent = (
            "all tokens went into reasoning" if reasoned else "all tokens went before the answer"
        )
        raise UnansweredError(f"{spent} (finish_reason {reason}); {RAISE_TOKENS}", finish)
    if reasoned:
        raise UnansweredError(
            f"there is reasoning and no answer (finish_reason {reason}); the server may take the "
            "answer for reasoning: see to its reasoning parser",
            finish,
        )


def _text(content: Any) -> tuple[str | None, bool]:
    """Return the text of a message's content, None if it has none; and whether there is reasoning.

    Args:
        content: Text, or a part, or a list of parts, of which only those of text count.
    """
    if isinstance(content, str):
        return content, False
    texts, thought = [], False
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            if _is_thought(part):
                thought = True
                continue
            kind = str(part.get("type", "text")).lower()
            found = part.get("text") if kind in ("text", "output_text") else part.get("refusal")
            value = found.get("value") if isinstance(found, dict) else found
            if isinstance(value, str):
                texts.append(value)
    return ("".join(texts) if texts else None), thought


def _reasoning(message: Any) -> str:
    """Return the texts of a message that are reasoning: of its own fields, and of parts."""
    found: Mapping[str, Any] = message if isinstance(message, dict) else {}
    content = found.get("content")
    parts = (
        [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    )
    thoughts = [part for part in parts if _is_thought(part)]
    texts = [found.get(name) for name in REASONING]
    texts += [text for part in thoughts for text in _texts_in(part)]
    return whole("\n".join(dict.fromkeys(t for t in texts if isinstance(t, str) and t)))


def _is_thought(part: Mapping[str, Any]) -> bool:
    kind = str(part.get("type", "text")).lower()
    return part.get("thought") is True or "think" in kind or "reason" in kind


def _texts_in(part: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of a part, which may be a list of parts itself, once."""
    for name in ("text", "thinking", "reasoning", "summary"):
        value = part.get(name)
        for piece in value if isinstance(value, list) else [value]:
            text = piece.get("text") if isinstance(piece, dict) else piece
            if isinstance(text, str):
                yield text


def _bare(text: str) -> str:
    """Return text without byte order marks and what the model's tokenizer puts around an answer."""
    text = whole(text).lstrip("\ufeff")
    begin = BEGIN_TOKENS.match(text)
    text = text[begin.end() :] if begin else text
    html = text.find("<s>")  # `<s>struck out</s>`
    for end in END_TOKENS.finditer(text):
        if end.group() != "</s>" or not 0 <= html < end.start():
            return text[: end.start()]
    return text


def _reasoning_tokens(usage: Any) -> bool:
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    count = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return type(count) is int and count > 0


def _tokens(usage: Any) -> tuple[int, int] | None:
    found: Mapping[str, Any] = usage if isinstance(usage, dict) else {}
    counts = (found.get("prompt_tokens"), found.get("completion_tokens"))
    prompt, answer = (n if type(n) is int and 0 <= n < 1 << 40 else None for n in counts)
    return None if prompt is None or answer is None else (prompt, answer)
