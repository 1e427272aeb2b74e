"""The mini world in the hub's layouts and in the official ones: the same samples, one by one."""

from __future__ import annotations

import contextlib
import json
import random
import shutil

import pytest

from adem_bench.cards import load_task_card
from adem_bench.data.hub.rows import HubPlace, place_of
from adem_bench.errors import CardError, DataError
from adem_bench.records import Record, Response
from adem_bench.tasks.base import build_task

datasets = pytest.importorskip("datasets")
parquet = pytest.importorskip("pyarrow.parquet")

ANNOTATIONS = {
    "mini_sqa": ("problems.json", "pid_splits.json", "captions.json"),
    "mini_caption": ("coco_karpathy_test.json", "coco_karpathy_test_gt.json"),
}


@pytest.fixture
def official(mini):
    """The mini world in the official layouts."""
    return mini


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """Keeps every cache in the test's folder, and the network out."""
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def picture(path):
    return {"bytes": path.read_bytes(), "path": path.name} if path else None


def science_rows(root):
    folder = root / "scienceqa"
    problems = json.loads((folder / "problems.json").read_text())
    for qid in json.loads((folder / "pid_splits.json").read_text())["test"]:
        row = {name: value for name, value in problems[qid].items() if name != "split"}
        image = folder / "images" / "test" / qid / "image.png" if row["image"] else None
        yield row | {"image": picture(image)}


def mme_rows(root):
    for path in sorted((root / "MME_Benchmark_release_version").rglob("*.txt")):
        folder = path.parent.parent if path.parent.name == "questions_answers_YN" else path.parent
        images = folder / "images" if path.parent != folder else folder
        for line in path.read_text().splitlines():
            question, answer = line.split("\t")
            yield {
                "question_id": f"{folder.name}/{path.stem}.png",
                "image": picture(images / f"{path.stem}.png"),
                "question": question,
                "answer": answer,
                "category": folder.name,
            }


def caption_rows(root):
    rows = json.loads((root / "coco_caption" / "coco_karpathy_test.json").read_text())
    for number, row in enumerate(rows):
        path = root / "images" / row["image"]
        yield {
            "question_id": path.name,
            "image": picture(path),
            "question": "Please carefully observe the image and come up with a caption for it",
            "answer": row["caption"],
            "id": int(path.stem.rpartition("_")[2]),
            "license": 1 + number % 3,
            "file_name": path.name,
        }


@pytest.fixture
def hub(tmp_path):
    """Writes rows as the hub keeps them: parquet files that are named by their split."""

    def write(rows, split="test", name="hub"):
        rows = list(rows)
        features = datasets.Dataset.from_list([{**rows[0], "image": None}]).features
        features = datasets.Features({**features, "image": datasets.Image()})
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True, exist_ok=True)
        data = datasets.Dataset.from_list(rows, features=features)
        data.to_parquet(folder / f"{split}-00000-of-00001.parquet")
        return folder.parent

    return write


@pytest.fixture
def with_annotations(official, tmp_path):
    """Makes a data root that holds annotation files and no image."""

    def make(*names):
        for path in official.rglob("*.json"):
            if path.name in names:
                place = tmp_path / "root" / path.relative_to(official)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
        return tmp_path / "root"

    return make


def task_from(folder, name, root, *settings, split=None):
    return build_task(name, root, [f"data.source=hub:{folder}", *settings], split)


def assert_same(found, expected, same_files=True):
    """Samples and requests one by one, with the pixels, and the scores of the same answers.

    Where the files are the same too, so is the fingerprint: runs continue and are compared.
    """
    assert [sample.id for sample in found.samples()] == [s.id for s in expected.samples()]
    assert found.num_expected == expected.num_expected
    assert (found.fingerprint() == expected.fingerprint()) == same_files
    records = {"found": [], "expected": []}
    for mine, theirs in zip(found.samples(), expected.samples(), strict=True):
        for field in ("fields", "reference", "groups", "cluster"):
            assert getattr(mine, field) == getattr(theirs, field)
        assert found.request(mine).digest() == expected.request(theirs).digest()
        assert [p.read_bytes() for p in mine.images] == [p.read_bytes() for p in theirs.images]
        for name, task, sample in (("found", found, mine), ("expected", expected, theirs)):
            records[name].append(record(task, sample))
    assert len(records["found"]) == expected.num_expected
    assert not found.skipped_rows()
    assert found.aggregate(records["found"]) == expected.aggregate(records["expected"])


def record(task, sample):
    text = random.Random(sample.id).choice(["Yes", "No", "A", "B", "a picture of a red circle"])
    read = task.parse_response(sample, Response(text))
    request = task.request(sample).digest()
    groups = (sample.groups, sample.cluster)
    return Record(sample.id, request, text, read.value, sample.reference, read.score, *groups)


@pytest.mark.parametrize("captions", ["true", "false"])
def test_scienceqa_in_any_order_by_the_text_of_its_questions(
    hub, official, with_annotations, captions
):
    rows = list(science_rows(official))
    twins = {
        json.dumps([row["question"], row["choices"], row["answer"], row["hint"]]) for row in rows
    }
    # Equal texts keep their order; the others may come in any.
    seen, moved, stay = set(), [], []
    for row in rows:
        key = json.dumps([row["question"], row["choices"], row["answer"], row["hint"]])
        (stay if key in seen else moved).append(row)
        seen.add(key)
    assert len(twins) == len(moved) > 200
    folder = hub([*moved[:50], *reversed(moved[50:]), *stay])
    root = with_annotations(*ANNOTATIONS["mini_sqa"])
    setting = f"options.captions={captions}"
    found = task_from(folder, "mini_sqa", root, setting)
    assert_same(found, build_task("mini_sqa", official, [setting]))


def test_scienceqa_without_its_problems_by_order_checked_by_captions(
    hub, official, with_annotations
):
    rows = list(science_rows(official))
    root = with_annotations("pid_splits.json", "captions.json")
    found = task_from(hub(rows), "mini_sqa", root, "options.captions=true")
    assert_same(found, build_task("mini_sqa", official, ["options.captions=true"]), False)
    mini = task_from(hub(rows), "mini_sqa", root, split="minitest")
    assert_same(mini, build_task("mini_sqa", official, split="minitest"), False)
    place = next(
        i for i in range(len(rows)) if bool(rows[i]["image"]) != bool(rows[i + 1]["image"])
    )
    rows[place], rows[place + 1] = rows[place + 1], rows[place]
    with pytest.raises(
        DataError, match=f"row {place} of test is not another question of that split"
    ):
        task_from(hub(rows, name="other"), "mini_sqa", root)


def test_scienceqa_without_any_id_is_called_by_split_and_row(hub, official, tmp_path):
    folder = hub(science_rows(official))
    found = task_from(folder, "mini_sqa", tmp_path / "root")
    assert [s.id for s in found.samples()] == [f"test-{number}" for number in range(300)]
    for mine, theirs in zip(
        found.samples(), build_task("mini_sqa", official).samples(), strict=True
    ):
        assert (mine.fields | {"caption": ""}) == (theirs.fields | {"caption": ""})
        assert (mine.groups, mine.reference) == (theirs.groups, theirs.reference)
    with pytest.raises(DataError, match=r"pid_splits\.json is missing: `adem-bench data fetch"):
        task_from(folder, "mini_sqa", tmp_path / "root", split="minitest")
    with pytest.raises(DataError, match=r"no captions by a machine: .* options\.captions=false"):
        task_from(folder, "mini_sqa", tmp_path / "root", "options.captions=true")


def test_scienceqa_with_rows_that_are_missing_or_foreign_is_refused(
    hub, official, with_annotations
):
    rows = list(science_rows(official))
    root = with_annotations(*ANNOTATIONS["mini_sqa"])
    with pytest.raises(DataError, match=r"has 299 questions of test, .*pid_splits\.json has 300"):
        task_from(hub(rows[:-1], name="short"), "mini_sqa", root)
    rows[7] = rows[7] | {"question": "Another one?"}
    with pytest.raises(DataError, match="row 7 of test is not another question"):
        task_from(hub(rows, name="foreign"), "mini_sqa", root)


def test_mme(hub, official):
    found = task_from(hub(mme_rows(official)), "mini_mme", None)
    assert_same(found, build_task("mini_mme", official))


def test_the_cards_own_data_set(hub, official):
    settings = [f"data.hub={hub(mme_rows(official))}", "data.source=hub"]
    assert_same(build_task("mini_mme", None, settings), build_task("mini_mme", official))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("who/what", HubPlace("who/what")),
        ("what@v1", HubPlace("what", None, "v1")),
        ("who/what#full", HubPlace("who/what", "full")),
        ("who/what@v1#full", HubPlace("who/what", "full", "v1")),
    ],
)
def test_names_on_the_hub(name, place):
    assert place_of(load_task_card("mme", [f"data.source=hub:{name}"])) == place
    assert place_of(load_task_card("mme", ["data.source=hub", f"data.hub={name}"])) == place


@pytest.mark.parametrize("split", ["val", "validation"])
def test_captions_of_a_karpathy_split_among_a_whole_year(hub, official, with_annotations, split):
    rows = list(caption_rows(official))
    other = rows[0] | {"file_name": "COCO_val2014_000000000007.jpg", "question_id": "x"}
    folder = hub([other, *reversed(rows)], split)
    root = with_annotations(*ANNOTATIONS["mini_caption"])
    # Figures that need Java take their time; samples, requests and pixels say enough.
    found, expected = task_from(folder, "mini_caption", root), build_task("mini_caption", official)
    assert list(map(digest_of(found), found.samples())) == list(
        map(digest_of(expected), expected.samples())
    )
    assert len(list(found.samples())) == 150
    assert found.fingerprint() == expected.fingerprint()


def digest_of(task):
    return lambda sample: (
        sample.id,
        sample.reference,
        task.request(sample).digest(),
        [path.read_bytes() for path in sample.images],
    )


def test_captions_of_a_year_without_any_annotation_file(hub, official, tmp_path):
    folder = hub(caption_rows(official), "val")
    found = task_from(folder, "mini_caption", tmp_path / "root", split="val2014")
    expected = build_task("mini_caption", official)
    assert list(map(digest_of(found), found.samples())) == list(
        map(digest_of(expected), expected.samples())
    )
    with pytest.raises(DataError, match=r"the hub has whole years only: .*--split val2014"):
        task_from(folder, "mini_caption", tmp_path / "root")


def test_captions_lack_an_image(hub, official, with_annotations):
    folder = hub(list(caption_rows(official))[:-2], "val")
    root = with_annotations(*ANNOTATIONS["mini_caption"])
    with pytest.raises(DataError, match=r"lacks 2 images that .*test\.json names, the first is"):
        task_from(folder, "mini_caption", root)


def test_a_folder_that_save_to_disk_wrote(official, tmp_path):
    rows = list(mme_rows(official))
    data = datasets.Dataset.from_list([{**row, "image": row["image"]["bytes"]} for row in rows])
    data = data.map(lambda row: {"image": {"bytes": row["image"], "path": None}})
    data.save_to_disk(tmp_path / "saved")
    assert_same(task_from(tmp_path / "saved", "mini_mme", None), build_task("mini_mme", official))


def test_rows_are_read_once_and_again_when_the_data_changes(hub, official, tmp_path, monkeypatch):
    folder = hub(mme_rows(official))
    task_from(folder, "mini_mme", None)
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("read again"))
        task_from(folder, "mini_mme", None)
    hub(list(mme_rows(official))[2:])
    assert len(list(task_from(folder, "mini_mme", None).samples())) == 318


def test_malformed_rows_are_named_by_the_readers_of_the_layout(hub, official):
    rows = list(mme_rows(official))
    rows[3] = rows[3] | {"answer": "perhaps"}
    task = task_from(hub(rows), "mini_mme", None)
    assert len(list(task.samples())) == 319
    assert "expected `question<TAB>Yes` or `No`" in task.skipped_rows()[0].reason


@pytest.mark.parametrize("name", ["..", "a/../../b", "", "C:x", "a\\b"])
def test_a_row_cannot_write_elsewhere(hub, official, name, tmp_path):
    rows = list(mme_rows(official))[:4]
    rows[2] = rows[2] | {"category": name}
    with pytest.raises(DataError, match=r"row 2: category .* cannot be the name of a file"):
        task_from(hub(rows), "mini_mme", None)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_a_row_cannot_name_a_file_of_the_readers_disk(hub, official, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG secret")
    rows = list(mme_rows(official))[:2]
    rows = [row | {"image": {"bytes": None, "path": str(secret)}} for row in rows]
    task = task_from(hub(rows), "mini_mme", None, "options.subtasks=[OCR]")
    assert [image.exists() for sample in task.samples() for image in sample.images] == [False] * 2


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("hub", CardError, "task mini_mme names no data set of the hub; write data.source=hub:ID"),
        ("hub:./nowhere", CardError, "the folder ./nowhere does not exist"),
        (
            "hub:who/knows",
            DataError,
            "hub data set who/knows cannot be read .*nor is who/knows a folder",
        ),
        ("hbu:x", CardError, "unknown data source 'hbu'; did you mean: hub"),
    ],
)
def test_what_is_not_there_is_named(source, error, message):
    with pytest.raises(error, match=message):
        build_task("mini_mme", None, [f"data.source={source}"])


def test_columns_of_another_data_set_are_named(hub, official):
    rows = [{"image": row["image"], "prompt": row["question"]} for row in mme_rows(official)][:2]
    message = "has no column 'question_id'; expected question_id, image, .*, found image, prompt"
    with pytest.raises(DataError, match=message):
        task_from(hub(rows), "mini_mme", None)


def test_a_file_of_no_rows_says_so(hub, official):
    folder = hub(list(mme_rows(official))[:2])
    (file,) = folder.rglob("*.parquet")
    table = parquet.read_table(file)
    parquet.write_table(table.slice(0, 0), file)
    with pytest.raises(DataError, match="one of its parquet files has no rows"):
        task_from(folder, "mini_mme", None)


@pytest.mark.parametrize("seed", range(20))
def test_a_file_whose_footer_lies_is_no_bug_of_ours(hub, official, seed):
    folder = hub(list(mme_rows(official))[:2])
    (file,) = folder.rglob("*.parquet")
    raw, draw = bytearray(file.read_bytes()), random.Random(seed)
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    for _ in range(3):
        raw[draw.randrange(footer, len(raw))] = draw.randrange(256)
    file.write_bytes(raw)
    with contextlib.suppress(DataError):  # and nothing else
        list(task_from(folder, "mini_mme", None).samples())


def test_a_folder_without_data_and_a_split_that_is_not_there(hub, official, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty cannot be read .*expected a folder of parquet"):
        task_from(tmp_path / "empty", "mini_mme", None)
    folder = hub(list(mme_rows(official))[:2], "tset")
    with pytest.raises(DataError, match="has no split 'test'; did you mean: tset"):
        task_from(folder, "mini_mme", None)


def test_a_kind_that_the_hub_does_not_have_is_named(tmp_path):
    from adem_bench.tasks.base import build_training_data

    with pytest.raises(CardError, match="kind instruction, which is not read from the hub"):
        build_training_data("mini_instruction", None, [f"data.source=hub:{tmp_path}"])


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("adem_bench.data.hub.rows.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"`pip install 'adem-bench\[hub\]'` brings it"):
        task_from(tmp_path, "mini_mme", None)
