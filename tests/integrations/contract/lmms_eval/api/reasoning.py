import json


def parse_reasoning_tags_config(cli_value=None, task_value=None):
    value = task_value or cli_value
    return json.loads(value) if value and value != "none" else None


def strip_reasoning_tags(text, tag_pairs):
    for start, end in tag_pairs:
        if start in text and end in text:
            text = text.partition(start)[0] + text.partition(end)[2]
    return text.strip()
