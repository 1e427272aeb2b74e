from __future__ import annotations

import io
import sys

import pytest

from adem_bench.cards import load_model_card
from adem_bench.cli import demo as demo_page
from adem_bench.errors import AdemBenchError
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.model import FusedModel
from adem_bench.records import Decoding
from adem_bench.tasks.base import build_task
from support.chat_server import Step, said, serving
from support.tiny_hf import BUILDERS


@pytest.fixture(autouse=True)
def _alone(one_thread, monkeypatch):
    """Tiny models, and no key of this machine's own."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def says(monkeypatch):
    """Puts text on standard input."""

    def put(raw):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw), "utf-8"))

    return put


@pytest.fixture(scope="session")
def llava(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ask") / "llava"
    BUILDERS["llava"](folder)
    return folder


def test_adem_is_asked_as_its_instructions_are_worded(adem_bench, monkeypatch):
    asked = []
    generate = FusedModel.generate
    monkeypatch.setattr(
        FusedModel, "generate", lambda self, r: asked.extend(r) or generate(self, r)
    )
    task = build_task("mini_mme", None)
    sample = next(task.samples())
    told = adem_bench(
        "ask", "--model", "adem-tiny", "--image", sample.images[0],
        "--max-new-tokens", 1, sample.fields["question"],
    )  # fmt: skip
    assert (told.code, told.err) == (0, "")
    assert told.out in ("Yes\n", "No\n")
    assert [request.prompt for request in asked] == [task.request(sample).prompt]
    assert asked[0].images == sample.images


def test_a_transformers_model_takes_several_images_in_order(adem_bench, llava, pictures):
    def told(*images):
        options = [word for image in images for word in ("--image", image)]
        asked = adem_bench(
            "ask", "--model", f"hf:{llava}", *options, "--max-new-tokens", 9, "Which?"
        )
        assert asked.code == 0, asked.err
        return asked.out

    red, green, _ = pictures
    assert len({told(red, green), told(green, red), told(red), told()}) == 4


def test_settings_are_the_models(adem_bench, llava):
    refused = adem_bench("ask", "--model", f"hf:{llava}", "--set", "model.dtype=int3", "Why?")
    assert refused.code == 2
    assert "field 'dtype': input should be 'auto'" in refused.err


def test_the_question_may_come_from_standard_input(adem_bench, says):
    says(b"  two\n  lines \xff\n")
    told = adem_bench("ask", "--model", "echo", "-")
    assert told.out == "two\n  lines �\n"


@pytest.mark.parametrize("question", ["", " \n", "-"])
def test_no_question_is_a_mistake(adem_bench, says, question):
    says(b"\n")
    told = adem_bench("ask", "--model", "echo", question)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("error: the question is empty")


def test_an_answer_cannot_act_on_the_terminal(adem_bench):
    with serving() as server:
        server.last = lambda asked: Step(said("a\x1b[2J\n\tb"))
        told = adem_bench("ask", "--model", f"openai:m@{server.url}", "Hi")
    assert told.out == "a\\x1b[2J\n        b\n"
    assert "the server's word" in told.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "gone.png", "Hi"], "File 'gone.png' does not exist"),
        (["--model", "adem-tniy", "Hi"], "unknown model 'adem-tniy'; did you mean: adem-tiny"),
        (["--model", "majority", "Hi"], "there is no task here"),
    ],
)
def test_mistakes_are_one_line(adem_bench, arguments, message):
    told = adem_bench("ask", "--model", "echo", *arguments)
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert message in told.err


def test_what_cannot_be_answered_is_an_error(adem_bench, pictures, tmp_path):
    (tmp_path / "a.png").write_text("no image")
    told = adem_bench("ask", "--model", "adem-tiny", "--image", "a.png", "Hi")
    assert told.code == 2
    assert told.err == "error: image a.png cannot be read: cannot identify image file 'a.png'\n"
    long = adem_bench("ask", "--model", "adem-tiny", "--max-new-tokens", 600, "Hi")
    assert long.code == 2
    assert long.err.startswith("error: 600 new tokens leave no room for a prompt in 512")


def test_the_demo_without_gradio_says_how_to_get_it(adem_bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    told = adem_bench("demo", "--model", "echo")
    assert told.code == 2
    assert "`pip install 'adem-bench[demo]'` brings it" in told.err


class Recorded:
    """A page that keeps how it was launched."""

    def __init__(self, error=None):
        self.error, self.given, self.blocked = error, {}, False

    def launch(self, **given):
        if self.error:
            raise self.error
        self.given = given

    def block_thread(self):
        self.blocked = True


def test_the_demo_stays_on_this_machine(capsys):
    page = Recorded()
    demo_page.serve(page, 7000)
    assert page.blocked
    assert page.given["server_name"] == "127.0.0.1"
    assert page.given["share"] is False
    assert "http://127.0.0.1:7000" in capsys.readouterr().out


def test_a_port_that_is_taken_is_said(capsys):
    with pytest.raises(AdemBenchError, match="cannot be used, most likely because it is taken"):
        demo_page.serve(Recorded(OSError("in use")), 7000)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "wanted", "says"),
    [
        ("raise ImportError('libx.so: failed to map segment')", ImportError, "failed to map"),
        ("raise ImportError('no module')", AdemBenchError, "the demo needs Gradio, which is not"),
    ],
)
def test_a_gradio_for_which_memory_lacks_is_not_called_missing(
    tmp_path, monkeypatch, text, wanted, says
):
    for name in [name for name in sys.modules if name.partition(".")[0] == "gradio"]:
        monkeypatch.delitem(sys.modules, name)
    for name in demo_page.QUIET:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "gradio.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(wanted, match=says):
        demo_page.import_gradio()


def test_the_page_asks_the_model(pictures, monkeypatch):
    pytest.importorskip("gradio")
    for name in demo_page.QUIET:
        monkeypatch.delenv(name, raising=False)
    gradio = demo_page.import_gradio()
    model = build_model(load_model_card("echo"), ModelOptions())
    page = demo_page.build_page(gradio, model, Decoding())
    assert page.analytics_enabled is False
    ask = next(iter(page.fns.values())).fn
    assert ask([(str(pictures[0]), None)], " Why? ", 5) == ("Why?", "Why?")
    with pytest.raises(gradio.Error, match="The question is empty"):
        ask(None, " ", 5)
    lost = build_model(load_model_card("majority"), ModelOptions())
    ask = next(iter(demo_page.build_page(gradio, lost, Decoding()).fns.values())).fn
    with pytest.raises(gradio.Error, match="there is no task here"):
        ask(None, "Hi", 5)
