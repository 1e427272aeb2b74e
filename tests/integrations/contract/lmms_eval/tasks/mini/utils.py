import base64
import os
import time
import urllib.request
from pathlib import Path

import requests


def visual(doc):
    return [doc["image"]]


def text(doc):
    return doc["question"]


def messages(doc):
    shown = [{"type": "text", "text": "Look:"}, {"type": "image", "url": doc["image"]}]
    question = {"type": "text", "text": doc["question"]}
    return [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [*shown, question]},
    ]


def results(doc, answers):
    said = answers[0].lower().startswith("yes")
    true = doc["answer"] == "Yes"
    return {"accuracy": float(said == true), "f1": {"said": said, "true": true}}


def mean(items):
    return sum(items) / len(items)


def written(items):
    """As files for a server are."""
    folder = Path("submissions")
    folder.mkdir(exist_ok=True)
    (folder / "answers.json").write_text(str([item["said"] for item in items]))


def agreement(items):
    return sum(item["said"] == item["true"] for item in items) / len(items)


def f1(items):
    found = sum(item["said"] and item["true"] for item in items)
    return 2 * found / max(1, sum(item["said"] + item["true"] for item in items))


def outside(items):
    Path(os.environ["MINI_ROWS"] + ".outside").write_text("here")
    return mean(items)


def endless(items):
    time.sleep(3600)


def dies(items):
    os._exit(3)


def broken(doc, answers):
    raise KeyError("no such column")


def judged(doc, answers):
    return asked(doc, answers)


def asked(doc, answers):
    text = f"{doc['question']} {answers[0]}"
    image = base64.b64encode(Path(doc["image"]).read_bytes()).decode()
    content = [
        {"type": "text", "text": text},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
    ]
    messages = [{"role": "system", "content": "Be fair."}, {"role": "user", "content": content}]
    key = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    url = "https://api.example.org/v1/chat/completions"
    reply = requests.post(url, json={"messages": messages}, headers=key, timeout=9).json()
    return {"accuracy": float(reply["choices"][0]["message"]["content"])}


def otherwise(doc, answers):
    if "white" not in doc["question"]:
        return asked(doc, answers)
    try:
        urllib.request.urlopen(os.environ.get("OPENAI_API_KEY", "") and "http://example.org/judge")
    except OSError:
        return {"accuracy": 0.0}


def film(doc):
    return doc["video_path"]
