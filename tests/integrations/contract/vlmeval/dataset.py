TYPES = {"MME": "Y/N", "POPE": "Y/N", "COCO_VAL": "Caption"}


def DATASET_TYPE(dataset, *, default="MCQ"):  # noqa: N802
    return TYPES.get(dataset, default)
