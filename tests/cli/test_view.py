from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request

import pytest


def test_a_port_in_use_and_a_missing_folder_are_mistakes(adem_bench, tmp_path):
    (tmp_path / "results").mkdir()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused = adem_bench("view", "--port", port)
    assert refused.code == 2
    assert refused.err == (
        f"error: port {port} of 127.0.0.1 is in use; --port N takes another, --port 0 a free one\n"
    )
    refused = adem_bench("view", "absent")
    assert refused.code == 2
    assert refused.err.startswith("error: absent is not a folder with results; `adem-bench run`")


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted_and_ends_well(tmp_path):
    command = [sys.executable, "-m", "adem_bench", "view", str(tmp_path), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        url = line.split(" is shown at ")[1].split()[0]
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert "No run yet" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "ended\n", "")
