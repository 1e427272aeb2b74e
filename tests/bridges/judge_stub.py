"""A judge whose answer follows from the question, for both sides of a comparison.

lmms-eval's own run, which imports nothing of ours, asks it by HTTP, as it would a server.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer_to(prompt):
    """Return a letter in brackets, another for another question."""
    return f"({'AB'[hashlib.sha256(prompt.encode()).digest()[0] % 2]})"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = answer_to("\n".join(message["content"] for message in body["messages"]))
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        reply = {
            **{"id": "judge", "object": "chat.completion", "created": 0, "model": "judge"},
            **{"choices": [{**choice, "finish_reason": "stop"}], "usage": usage},
        }
        said = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *given):
        pass


def serve():
    """Start a server of it; return the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"
