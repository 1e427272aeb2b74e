"""Chat completions that another harness's scoring asks for, answered by our judge.

The harness's process has no network. What it would send to a server comes through a socket of this
machine (`worker/judge.py`), is put to the judge as a question, and goes back as a server's reply.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import queue
import socketserver
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adem_bench.records import Decoding, Part, Request, Role
from adem_bench.tasks.base import Judge, Question

SOCKET = "judge"
MOST_PATH_BYTES = 90
"""Of a socket's path; systems take little more."""
GATHER_S = 0.02
"""How long further questions are waited for, to be asked together."""
DEFAULT_TOKENS = 2048
"""How long a judge's answer may be where the harness does not say; VLMEvalKit's own default."""
MOST_CHOICES = 16
MOST_TIMES = 25
"""How often the same may be asked: some code asks for as long as it cannot read the answer."""
ROLES: Mapping[Any, Role] = {"system": "system", "developer": "system", "assistant": "assistant"}
SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif"}


class NoQuestionError(ValueError):
    """What the harness sent is nothing that a judge can be asked."""


@dataclass(slots=True)
class _Asked:
    """What came through the socket, and what goes back."""

    body: Any
    sample_id: str
    reply: dict[str, Any] = field(default_factory=dict)
    """Empty where the judge will answer nothing."""
    is_done: threading.Event = field(default_factory=threading.Event)


class JudgeServer:
    """Answers one scoring process.

    Equal questions are told apart by how often they were asked, so that asking again, as harnesses
    do with what they cannot read, may bring another answer, and the same one in another run.
    """

    def __init__(self, judge: Judge, images: Path) -> None:
        """Answer by a judge.

        Args:
            judge: Whom to ask.
            images: Folder for the images that questions show.
        """
        self._judge = judge
        self._images = images
        self._waiting: queue.Queue[_Asked] = queue.Queue()
        self._times: Counter[str] = Counter()
        self.failed: dict[str, str] = {}
        """By sample, why the judge did not answer; the empty id: not about one sample."""

    @property
    def at_once(self) -> int:
        """How many questions are best waiting at a time."""
        return self._judge.at_once

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Listen at a socket, whose path is given, until the context ends."""
        root = tempfile.gettempdir()
        short = root if len(root) < MOST_PATH_BYTES - 30 else "/tmp"  # noqa: S108 - a folder of its own
        with tempfile.TemporaryDirectory(prefix="adem-judge-", dir=short) as folder:
            path = str(Path(folder) / SOCKET)
            with _Server(path, self._waiting) as server:
                thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
                thread.start()
                try:
                    yield path
                finally:
                    server.shutdown()
                    thread.join()
                    while not self._waiting.empty():
                        self._waiting.get().is_done.set()

    def answer(self, patience: float) -> bool:
        """Answer what waits, all of it together; return whether anything did.

        Args:
            patience: Seconds to wait for a first question.

        Raises:
            AdemBenchError: the judge will answer nothing.
        """
        try:
            asked = [self._waiting.get(timeout=patience)]
        except queue.Empty:
            return False
        while len(asked) < self.at_once:
            try:
                asked.append(self._waiting.get(timeout=GATHER_S))
            except queue.Empty:
                break
        try:
            self._answer(asked)
        finally:
            for one in asked:
                one.is_done.set()
        return True

    def _answer(self, asked: Sequence[_Asked]) -> None:
        questions: list[Question] = []
        owners: list[_Asked] = []
        for one in asked:
            try:
                request = self._request(one.body)
                count = _choices(one.body)
            except NoQuestionError as error:
                self._fail(one, str(error))
                continue
            key = request.digest()
            if self._times[key] + count > MOST_TIMES:
                self._fail(one, f"it was asked the same {MOST_TIMES} times, and not understood")
                continue
            for _ in range(count):
                questions.append(Question(one.sample_id, replace(request, repeat=self._times[key])))
                self._times[key] += 1
                owners.append(one)
        texts: dict[int, list[str]] = {}
        for one, response in zip(owners, self._judge.ask(questions), strict=True):
            if response.error is not None:
                self._fail(one, response.error)
            else:
                texts.setdefault(id(one), []).append(response.answer_text)
        for one in asked:
            if not one.reply:
                one.reply = _completion(texts[id(one)])

    def _fail(self, one: _Asked, reason: str) -> None:
        self.failed.setdefault(one.sample_id, reason)
        one.reply = {"error": reason}

    def _request(self, body: Any) -> Request:
        """Return the question that the body of a chat completion asks.

        Raises:
            NoQuestionError: it asks for what a judge does not give.
        """
        if body is None:
            raise NoQuestionError("a server was asked in another way than by chat completions")
        if not isinstance(body, Mapping) or not isinstance(body.get("messages"), list):
            raise NoQuestionError("it was sent no messages")
        if body.get("tools") or body.get("logprobs"):
            raise NoQuestionError("it was asked for tools or log-probabilities")
        parts: list[Part] = []
        images: list[Path] = []
        for message in body["messages"]:
            if not isinstance(message, Mapping):
                raise NoQuestionError("a message is not an object")
            role = ROLES.get(message.get("role"), "user")
            for piece in _pieces(message.get("content")):
                if isinstance(piece, str):
                    parts.append(Part(piece, role=role))
                else:
                    parts.append(Part(image=len(images), role=role))
                    images.append(self._image(piece["url"]))
        texts = [part.text for part in parts if part.image is None]
        if not any(text.strip() for text in texts):
            raise NoQuestionError("it was sent no text")
        tokens = body.get("max_tokens") or body.get("max_completion_tokens")
        temperature = body.get("temperature")
        is_number = isinstance(temperature, int | float) and temperature > 0
        is_plain = not images and len(parts) == 1
        return Request(
            prompt="\n".join(texts),
            images=tuple(images),
            max_new_tokens=tokens if type(tokens) is int and tokens > 0 else DEFAULT_TOKENS,
            decoding=Decoding(float(temperature), seed=0) if is_number else Decoding(),  # type: ignore[arg-type]
            parts=() if is_plain else tuple(parts),
        )

    def _image(self, url: Any) -> Path:
        """Return the file of an image that is in its address."""
        head, comma, data = str(url).partition(",")
        kind = head.removeprefix("data:").removesuffix(";base64")
        if not (comma and head.startswith("data:") and head.endswith(";base64")):
            raise NoQuestionError("an image is at an address, and nothing is downloaded")
        try:
            raw = base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise NoQuestionError(f"an image is not base64: {error}") from error
        name = hashlib.sha256(raw).hexdigest()[:16]
        path = self._images / f"{name}{SUFFIXES.get(kind, '.png')}"
        if not path.exists():
            self._images.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            part.write_bytes(raw)
            part.replace(path)
        return path


def _pieces(content: Any) -> Iterator[Any]:
    """Yield the texts of a message, and its images as objects with a `url`."""
    if isinstance(content, str):
        yield content
        return
    for piece in content if isinstance(content, list) else ():
        kind = piece.get("type") if isinstance(piece, Mapping) else None
        if kind == "text":
            yield str(piece.get("text", ""))
        elif kind == "image_url":
            image = piece.get("image_url")
            yield image if isinstance(image, Mapping) and "url" in image else {"url": image}
        else:
            raise NoQuestionError(f"a message holds {str(kind)!r:.40}; texts and images are asked")


def _choices(body: Mapping[str, Any]) -> int:
    number = body.get("n") or 1
    if type(number) is not int or not 1 <= number <= MOST_CHOICES:
        raise NoQuestionError(f"it was asked for {number!r:.20} answers, at most {MOST_CHOICES}")
    return number


def _completion(texts: Sequence[str]) -> dict[str, Any]:
    """Return texts as a server's reply."""
    choices = [
        {
            "index": place,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        for place, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return {
        "id": "judge",
        "object": "chat.completion",
        "created": 0,
        "model": "judge",
        "choices": choices,
        "usage": usage,
    }


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """One connection for each question."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: str, waiting: queue.Queue[_Asked]) -> None:
        self.waiting = waiting
        super().__init__(path, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the process at the other end was ended, or sent nonsense."""


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Take one question, and write its reply once it is there."""
        sent = json.loads(self.rfile.readline())
        asked = _Asked(sent["body"], str(sent["sample"] or ""))
        self.server.waiting.put(asked)
        asked.is_done.wait()
        self.wfile.write(json.dumps(asked.reply).encode() + b"\n")
