"""What is sent to a server and what is read out of its answers."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from adem_bench.cards import load_model_card
from adem_bench.errors import CardError
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.openai_api.messages import data_uri
from adem_bench.records import Decoding, Part, Request
from support.chat_server import Step, said


def test_a_question_without_image_is_plain_text(server, served):
    (response,) = served().generate([Request("Is it red?", max_new_tokens=7)])
    assert (response.text, response.error, response.tokens) == ("yes", None, (10, 2))
    assert server.paths == ["/v1/chat/completions"]
    assert server.asked == [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "Is it red?"}],
            "max_tokens": 7,
            "temperature": 0,
        }
    ]


def test_what_a_run_asks_of_decoding_goes_before_the_cards_parameters(server, served):
    model = served("options.parameters={temperature: 0.7, seed: 1}")
    asked = [Decoding(), Decoding(0.0), Decoding(0.5, top_p=0.8, seed=3)]
    first, greedy, drawn = (model.decoding(decoding) for decoding in asked)
    for decoding in (first, greedy, drawn):
        model.generate([Request("a", decoding=decoding), Request("b", decoding=decoding)])
    bodies = sorted(server.asked, key=lambda body: body["messages"][0]["content"])
    names = ("temperature", "top_p")
    assert {tuple(body.get(name) for name in names) for body in bodies} == {
        (0.7, None), (0.0, None), (0.5, 0.8),
    }  # fmt: skip
    seeds = [body["seed"] for body in bodies if body["temperature"] == 0.5]
    assert len(set(seeds)) == 2
    with pytest.raises(CardError, match=r"top_k: model .* honours seed, temperature, top_p; leave"):
        model.decoding(Decoding(0.5, top_k=5))


def test_images_go_before_the_prompt_in_their_own_bytes(server, served, pictures):
    served().generate([Request("Which?", tuple(pictures[:2]))])
    *sent, words = server.asked[0]["messages"][0]["content"]
    assert words == {"type": "text", "text": "Which?"}
    for part, path in zip(sent, pictures, strict=False):
        kind, _, data = part["image_url"]["url"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == path.read_bytes()


def test_a_format_that_few_servers_read_is_sent_as_png(tmp_path):
    Image.new("RGB", (3, 2), "red").save(tmp_path / "a.bmp")
    kind, _, data = data_uri(tmp_path / "a.bmp").partition(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).getpixel((0, 0)) == (255, 0, 0)


def test_a_conversation_is_sent_in_its_order(server, served, pictures):
    parts = (
        Part("Be brief.", role="system"),
        Part("Look: "), Part(image=1), Part("and "), Part(image=0), Part("Which?"),
        Part("The first.", role="assistant"),
        Part("And "), Part("now?"),
    )  # fmt: skip
    model = served("options.system=In English.")
    model.generate([Request("Which?", tuple(pictures[:2]), parts=parts)])
    system, shown, said_before, asked = server.asked[0]["messages"]
    assert system == {"role": "system", "content": "In English.Be brief."}
    assert said_before == {"role": "assistant", "content": "The first."}
    assert asked == {"role": "user", "content": "And now?"}
    kinds = [piece.get("text") or piece["image_url"]["url"] for piece in shown["content"]]
    first, second = (data_uri(path) for path in pictures[:2])
    assert kinds == ["Look: ", second, "and ", first, "Which?"]


def test_stop_strings_are_sent_as_far_as_servers_take_them_and_end_the_answer(server, served):
    server.last = lambda asked: Step(said("Yes! No? Maybe"))
    stops = ("a", "b", "c", "d", "?")
    (response,) = served().answer([Request("Hi", stop=stops)])
    assert server.asked[0]["stop"] == ["a", "b", "c", "d"]
    assert (response.text, response.finish_reason) == ("Yes! No", "stop")


def test_an_answer_that_was_cut_is_failed_unless_the_card_scores_it(server, served):
    cut = said("Yes, bec")
    cut["choices"][0]["finish_reason"] = "length"
    server.last = lambda asked: Step(cut)
    (failed,) = served().answer([Request("Hi", max_new_tokens=3)])
    assert "cut at 3 tokens; raise options.max_new_tokens" in failed.error
    scored = served("options.cut_answers=scored")
    assert scored.answer([Request("Hi")])[0].error is None
    assert scored.fingerprint() != served().fingerprint()


@pytest.mark.parametrize(
    ("body", "status", "ended"),
    [
        (said("Yes"), 200, "stop"),
        ({"choices": [{"message": None, "finish_reason": "content_filter"}]}, 200, "filter"),
        ({"error": {"code": "content_filter", "message": "no"}}, 400, "filter"),
        ({"error": {"code": "content_filter", "message": "no"}}, 200, "filter"),
        ({"error": "too long"}, 400, "error"),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}, 200, "length"),
    ],
)
def test_a_response_says_how_it_ended(server, served, body, status, ended):
    server.last = lambda asked: Step(body, status)
    (response,) = served().answer([Request("Hi")])
    assert response.finish_reason == ended
    assert bool(response.error) is (ended != "stop")


def test_half_characters_of_a_question_are_replaced(server, served):
    (response,) = served('options.system="\\ud835?"').generate(
        [Request("Is \ud835 red? \U0001d400")]
    )
    assert response.text == "yes"
    system, question = server.asked[0]["messages"]
    assert (system["content"], question["content"]) == ("??", "Is ? red? \U0001d400")


def test_a_server_is_sent_the_image_that_is_shown(server, served, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("I;16", (8, 8), 30_000).save(tmp_path / "deep.png")
    served().generate([Request("?", (tmp_path / "turned.jpg", tmp_path / "deep.png"))])
    sent = []
    for part in server.asked[0]["messages"][0]["content"][:2]:
        kind, _, data = part["image_url"]["url"].partition(",")
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        sent.append((kind, image.mode, image.size, image.getexif().get(0x0112)))
    assert sent == [
        ("data:image/png;base64", "RGB", (20, 30), None),
        ("data:image/png;base64", "RGB", (8, 8), None),
    ]
    assert image.getpixel((0, 0)) == (117, 117, 117)


def test_an_image_that_cannot_be_read_fails_its_sample_and_asks_nobody(server, served, tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG, not")
    good, bad = served().generate([Request("a"), Request("b", (tmp_path / "a.png",))])
    assert good.text == "yes"
    assert "cannot be read" in bad.error
    assert len(server.asked) == 1


def test_options_shape_the_request(server, served):
    model = served(
        "options.system=Be brief.",
        "options.max_tokens_field=max_completion_tokens",
        "options.parameters={temperature: null, seed: 3}",
    )
    model.generate([Request("Hi")])
    assert server.asked[0] == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "max_completion_tokens": 16,
        "seed": 3,
    }


def test_the_fingerprint_is_of_what_is_asked_and_not_of_how_patiently(served):
    model = served()
    for same in ("options.retries=9", "options.concurrency=1", "options.input_price=2"):
        assert served(same).fingerprint() == model.fingerprint()
    for other in ("options.system=Hi", "options.parameters={seed: 1}"):
        assert served(other).fingerprint() != model.fingerprint()


def test_runs_of_a_server_are_found_again_by_later_versions(served):
    """A setting that is new must leave fingerprints alone while it is at its default."""
    model = served(url="http://localhost:8000/v1")
    assert model.fingerprint() == "1bb4940ecc0247a7"


def build(source, *settings):
    return build_model(load_model_card(f"openai:{source}", settings), ModelOptions())


@pytest.mark.parametrize(
    ("source", "url", "name"),
    [
        ("m@http://localhost:8000", "http://localhost:8000/v1", "m"),
        ("m@http://localhost:8000/v1/", "http://localhost:8000/v1", "m"),
        ("m@https://a.b/c/v2/chat/completions", "https://a.b/c/v2", "m"),
        ("@org/m@1@http://localhost:1/v1", "http://localhost:1/v1", "@org/m@1"),
    ],
)
def test_addresses(source, url, name):
    facts = build(source).describe()
    assert (facts["server"], facts["served_model"]) == (url, name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("m@localhost:8000", "'localhost:8000' is not an address; expected MODEL@http://HOST:PORT"),
        ("m@http://:80/v1", "is not an address"),
        ("m@http://host:port/v1", "the address is not a URL"),
        ("m", "the environment variable OPENAI_API_KEY holds no key; set it"),
    ],
)
def test_what_is_no_address_is_said(source, message):
    with pytest.raises(CardError, match=message):
        build(source)


@pytest.mark.parametrize(
    "source", ["m@https://me:hunter2@a.b/v1", "m@https://a.b/v1?key=hunter2"], ids=["user", "query"]
)
def test_a_secret_in_the_address_is_refused_and_not_repeated(source):
    with pytest.raises(CardError, match="keys come from the environment alone") as caught:
        build(source)
    # The card's name is what the user typed; the message's own words add nothing to it.
    assert "hunter2" not in str(caught.value).removeprefix(f"model openai:{source}")


def test_prices_are_for_a_million_tokens(served):
    assert served().cost(1000, 10) is None
    priced = served("options.input_price=2.5", "options.output_price=10")
    assert priced.cost(1_000_000, 100_000) == pytest.approx(3.5)


def test_a_served_model_says_whose_word_its_weights_are(server, served):
    model = served()
    model.generate([Request("Hi")])
    assert model.describe()["answered_by"] == ["served-1"]
    assert model.warnings() == [
        f"the weights behind {server.url} are known by the server's word only"
    ]
    assert said("x")["model"] == "served-1"
