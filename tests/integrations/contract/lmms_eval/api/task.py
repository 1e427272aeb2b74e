import functools
import json
import os
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import yaml


class Loader(yaml.SafeLoader):
    pass


def five_times(function):
    @functools.wraps(function)
    def again(*given, **named):
        for _ in range(5):
            try:
                return function(*given, **named)
            except Exception:
                time.sleep(60)
        raise RuntimeError("tried five times")

    return again


class TakeFirst:
    def apply(self, instances, docs):
        for one, _ in zip(instances, docs, strict=True):
            one.filtered_resps = {"none": one.resps[0]}


class ConfigurableTask:
    def __init__(self, file):
        spec = spec_from_file_location("utils", file.with_name("utils.py"))
        utils = module_from_spec(spec)
        spec.loader.exec_module(utils)
        name = "!function"
        Loader.add_constructor(name, lambda _, node: getattr(utils, node.value.split(".")[1]))
        fields = yaml.load(file.read_text(), Loader)
        if "include" in fields:
            shared = file.with_name(fields.pop("include")).read_text()
            fields = {**yaml.load(shared, Loader), **fields}
        self.OUTPUT_TYPE = fields.get("output_type", "generate_until")
        self.config = SimpleNamespace(
            num_fewshot=None, repeats=1, validation_split=None, metadata=None, reasoning_tags=None
        )
        self.config.__dict__.update(fields)
        self.download()
        self.task_docs = self.eval_docs
        self._filters = [TakeFirst()]
        self.doc_to_visual = self.config.doc_to_visual
        self.doc_to_target = lambda doc: doc[self.config.doc_to_target]
        metrics = self.config.metric_list
        self._aggregation = {one["metric"]: one["aggregation"] for one in metrics}

    def set_config(self, key, value):
        setattr(self.config, key, value)

    def set_fewshot_seed(self, seed):
        self.seed = seed

    def doc_to_messages(self, doc):
        return self.config.doc_to_messages(doc)

    @five_times
    def download(self):
        lines = Path(os.environ["MINI_ROWS"]).read_text().splitlines()
        self.eval_docs = self.eval_docs_no_media = [json.loads(line) for line in lines]

    def fewshot_context(self, doc, number):
        assert (number, self.seed) == (0, 1234)
        return self.config.doc_to_text(doc)

    @five_times
    def process_results(self, doc, results):
        return self.config.process_results(doc, [text.strip() for text in results])

    def aggregation(self):
        return self._aggregation
