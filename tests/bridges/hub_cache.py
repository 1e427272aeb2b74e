"""Write rows as `datasets` keeps what it has once fetched; run where lmms-eval is, without us.

Reads [{place, configuration, split, images, rows}, …] as JSON from the file named first, and writes
below the folder named second, for `HF_DATASETS_CACHE`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import datasets
from datasets.arrow_writer import ArrowWriter
from datasets.naming import camelcase_to_snakecase


def pictures(value):
    """Return the bytes of an image, or of each of a list."""
    if isinstance(value, list):
        return [pictures(one) for one in value]
    return None if value is None else {"bytes": Path(value).read_bytes(), "path": None}


def write(cache, found):
    """Write one split of one configuration.

    Args:
        cache: The folder.
        found: What is to be written.
    """
    rows = [
        {key: pictures(value) if key in found["images"] else value for key, value in row.items()}
        for row in found["rows"]
    ]
    features = datasets.Dataset.from_list(rows).features
    for column in found["images"]:
        is_list = isinstance(rows[0][column], list)
        features[column] = datasets.List(datasets.Image()) if is_list else datasets.Image()
    owner, _, name = found["place"].partition("/")
    name = camelcase_to_snakecase(name)
    folder = cache / f"{owner}___{name}" / found["configuration"] / "0.0.0" / ("0" * 40)
    folder.mkdir(parents=True, exist_ok=True)
    writer = ArrowWriter(path=str(folder / f"{name}-{found['split']}.arrow"), features=features)
    for row in rows:
        writer.write(row)
    count, size = writer.finalize()
    writer.close()
    splits = datasets.splits.SplitDict(dataset_name=name)
    splits.add(datasets.SplitInfo(found["split"], size, count, dataset_name=name))
    datasets.DatasetInfo(
        features=features,
        builder_name="parquet",
        dataset_name=name,
        config_name=found["configuration"],
        version="0.0.0",
        splits=splits,
    ).write_to_directory(str(folder))


if __name__ == "__main__":
    for one in json.loads(Path(sys.argv[1]).read_text()):
        write(Path(sys.argv[2]), one)
