from __future__ import annotations

from adem_bench.records import Request
from support.answering import Answering


def test_a_model_that_goes_on_with_the_text_is_cut_before_the_next_question():
    model = Answering(lambda request: "a cat\n\nWhat is it? Answer: a dog")
    (response,) = model.answer([Request("What is it? Answer: ", text_stop="\n\n")])
    assert (response.text, response.finish_reason) == ("a cat", "stop")
    model = type("InTurns", (Answering,), {"continues_text": False})(lambda request: "a\n\nb")
    (response,) = model.answer([Request("What is it?", text_stop="\n\n")])
    assert response.text == "a\n\nb"
