import os
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from vlmeval.api.base import BaseAPI
from vlmeval.dataset.image_base import ImageBaseDataset, LMUDataRoot
from vlmeval.smp import dump, load

PLACE = "https://example.org"
TYPES = {"MME": "Y/N", "POPE": "Y/N", "COCO_VAL": "Caption"}


class YesNo(ImageBaseDataset):
    TYPE = "Y/N"
    DATASET_URL = {"MME": "https://example.org/MME.tsv", "POPE": "https://example.org/POPE.tsv"}
    DATASET_MD5 = {"MME": "another"}

    def evaluate(self, file, model="gpt", nproc=1, **given):
        if model == "exact_matching":
            return super().evaluate(file)
        judge = build_judge(model=model)
        rows = load(file)
        lines = [rows.iloc[place] for place in range(len(rows))]
        with ThreadPoolExecutor(nproc) as pool:
            rows["prediction"] = list(pool.map(lambda line: read(judge, line), lines))
        dump(rows, file)
        return super().evaluate(file)


class Caption(ImageBaseDataset):
    TYPE = "Caption"
    DATASET_URL = {"COCO_VAL": "https://example.org/COCO_VAL.tsv"}

    def evaluate(self, file, **given):
        judge = build_judge(**given)
        said = judge.generate("How good are all of them?")
        return pd.DataFrame([{"split": "none", "Overall": float(said)}])


class Between(ImageBaseDataset):
    TYPE = "VQA"
    DATASET_URL = {"Between": f"{PLACE}/Between.tsv"}
    DATASET_MD5 = {"Between": "00000000000000000000000000000000"}

    def build_prompt(self, line):
        image, text = super().build_prompt(line)
        return [{"type": "text", "value": "Look:"}, image, text]


class Turns(ImageBaseDataset):
    TYPE = "MT"
    DATASET_URL = {"Turns": "https://example.org/Turns.tsv"}


class Computed(ImageBaseDataset):
    TYPE = "VQA"

    @classmethod
    def supported_datasets(cls):
        return [f"Computed_{number}" for number in range(2)]


class Film(ImageBaseDataset):
    TYPE = "VQA"
    MODALITY = "VIDEO"
    DATASET_URL = {"Film": "https://example.org/Film.tsv"}


class ConcatDataset(ImageBaseDataset):
    DATASET_SETS = {"Both": ["MME", "POPE"]}


IMAGE_DATASET = [YesNo, Caption, Between, Turns, Computed]
VIDEO_DATASET = [Film]
TEXT_DATASET = []
DATASET_CLASSES = IMAGE_DATASET + VIDEO_DATASET


def build_judge(**given):
    judge = BaseAPI(**given)
    assert judge.working()
    return judge


def read(judge, line):
    for _ in range(2):
        said = judge.generate(f"{line['question']} {line['prediction']} Yes or No?")
        if said in ("Yes", "No", judge.fail_msg):
            return said
    return "No"


def build_dataset(name):
    for kind in DATASET_CLASSES:
        if name in kind.supported_datasets():
            return kind(name)
    return ImageBaseDataset(name) if os.path.exists(f"{LMUDataRoot()}/{name}.tsv") else None


def DATASET_TYPE(dataset, *, default="MCQ"):
    return TYPES.get(dataset, default)
