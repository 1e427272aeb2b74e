"""A server in a thread that answers as it is told, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DEADLINE_S = 60


def said(text, **more):
    """The body of a good answer."""
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"model": "served-1", "choices": [choice], "usage": usage} | more


@dataclass
class Step:
    """One reply; bytes go out as they are, anything else as JSON."""

    body: object
    status: int = 200
    headers: dict = field(default_factory=dict)
    silent: bool = False
    """Never comes."""
    drip: bool = False
    """Comes byte by byte and never to its end."""
    continues: bool = False
    """Is announced again and again (`100 Continue`), and never comes."""
    together: int = 1
    """Is held back until so many requests have been there at once."""


class Script:
    """What the server does: the steps in order, then `last` for ever."""

    def __init__(self):
        self.steps = []
        self.last = lambda asked: Step(said("yes"))
        self.asked = []
        self.paths = []
        self.headers = []
        self.at = []
        self.clock = time.monotonic
        self.flying = self.most_flying = 0
        self.lock = threading.Lock()
        self.arrival = threading.Condition(self.lock)
        self.end = threading.Event()
        self.url = ""

    def next(self, asked):
        with self.lock:
            self.asked.append(asked)
            self.at.append(self.clock())
            return self.steps.pop(0) if self.steps else self.last(asked)

    def hold(self, step):
        """Wait as the step says; what never comes together is answered in the end all the same."""
        if step.silent:
            self.end.wait(DEADLINE_S)
        with self.arrival:
            self.arrival.wait_for(lambda: self.most_flying >= step.together, DEADLINE_S)


@contextmanager
def serving():
    """A running server: its script."""
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with script.arrival:
                script.flying += 1
                script.most_flying = max(script.most_flying, script.flying)
                script.arrival.notify_all()
                script.paths.append(self.path)
                script.headers.append(dict(self.headers))
            step = script.next(asked)
            script.hold(step)
            with script.lock:
                script.flying -= 1
            raw = step.body if isinstance(step.body, bytes) else json.dumps(step.body).encode()
            try:
                while step.continues and not script.end.wait(0.05):
                    self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.send_response(step.status)
                for name, value in step.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(1 << 30 if step.drip else len(raw)))
                self.end_headers()
                self.wfile.write(raw)
                while step.drip and not script.end.wait(0.05):
                    self.wfile.write(b" ")
            except OSError:
                pass  # who asked has gone

        def log_message(self, *arguments):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{listening.server_address[1]}/v1"
    yield script
    script.end.set()
    listening.shutdown()
    listening.server_close()
