"""`adem-bench data`, with cards whose files come from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

import pytest
import yaml

from support.file_server import serving


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def world(mini):
    return mini / "scienceqa"


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def card(world, server, tmp_path):
    """A card of the mini world's ScienceQA, whose files are published on the server."""
    files = []
    for name in ("problems.json", "pid_splits.json", "captions.json"):
        body = (world / name).read_bytes()
        server.files[f"/{name}"] = body
        files.append(
            {
                "path": f"scienceqa/{name}",
                "url": f"{server.url}/{name}",
                "size": len(body),
                "sha256": sha256(body),
            }
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (world / "images").rglob("*.png"):
            archive.write(path, path.relative_to(world / "images"))
    body = packed.getvalue()
    server.files["/images/test.zip"] = body
    files.append(
        {
            "path": "scienceqa/images/test",
            "url": f"{server.url}/images/test.zip",
            "size": len(body),
            "md5": hashlib.md5(body).hexdigest(),
            "unpack": "test",
            "splits": ["test", "minitest"],
        }
    )
    files.append(
        {
            "path": "scienceqa/images/val",
            "url": f"{server.url}/images/val.zip",
            "unpack": "val",
            "splits": ["val"],
        }
    )
    fields = {
        "kind": "scienceqa",
        "split": "test",
        "expected": {"test": 300, "minitest": 30},
        "headline": "average",
        "options": {"captions": False},
        "data": {"licence": "Apache-2.0", "files": files},
    }

    def write(**changes):
        path = tmp_path / "own.yaml"
        fields["data"] |= changes.pop("data", {})
        path.write_text(yaml.safe_dump(fields | changes))
        return path

    write.files = files
    return write


@pytest.fixture
def fetched(adem_bench, card):
    """The card, with its data fetched into `data`."""
    path = card()
    assert adem_bench("data", "fetch", path).code == 0
    return path


def test_fetch_brings_everything_and_verify_finds_it_good(adem_bench, card, tmp_path, server):
    path = card()
    done = adem_bench("data", "fetch", path)
    assert done.code == 0, done.err
    assert "problems.json: fetched" in done.out
    assert "images/test: fetched, 150 files unpacked" in done.out
    left = [path.name for path in (tmp_path / "data" / ".downloads").iterdir()]
    assert [name for name in left if not name.endswith(".lock")] == []
    checked = adem_bench("data", "verify", path, "--images", "all")
    assert checked.out == "own, test: good (300 of 300 samples, 150 images, 150 opened)\n"
    assert checked.code == 0
    count = len(server.asked)
    again = adem_bench("data", "fetch", path)
    assert again.out.count("already there") == 4
    assert (again.code, len(server.asked)) == (0, count)


def test_an_archive_that_broke_off_continues(adem_bench, card, server, tmp_path):
    server.cut_after = 100_000
    path = card()
    done = adem_bench("data", "fetch", path)
    assert done.code == 2
    assert "/images/test.zip: broken off after 100000 bytes" in done.err
    assert "problems.json: broken off" in done.err  # the other files were tried too
    server.cut_after = None
    assert adem_bench("data", "fetch", path).code == 0
    assert ("/images/test.zip", "bytes=100000-") in server.asked


def test_wrong_bytes_are_not_taken(adem_bench, card, server, tmp_path):
    server.files["/problems.json"] = server.files["/problems.json"].replace(b"red", b"RED")
    done = adem_bench("data", "fetch", card())
    assert done.code == 2
    assert "problems.json.part has sha256" in done.err
    assert "published is" in done.err
    assert not (tmp_path / "data" / "scienceqa" / "problems.json").exists()
    assert (tmp_path / "data" / "scienceqa" / "pid_splits.json").exists()


def test_a_file_that_is_gone_is_said_in_a_line(adem_bench, card, server):
    del server.files["/captions.json"]
    done = adem_bench("data", "fetch", card())
    assert done.code == 2
    assert "/captions.json does not exist (404)" in done.err
    assert done.err.count("\n") == 1


def test_nothing_on_disk_is_replaced(adem_bench, card, server, tmp_path):
    mine = tmp_path / "data" / "scienceqa" / "problems.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("{}")
    (mine.parent / "images" / "test").mkdir(parents=True)
    done = adem_bench("data", "fetch", card())
    assert done.code == 2
    assert "problems.json has 2 bytes, published are" in done.err
    assert "move it away to fetch it again" in done.err
    assert "images/test: already there" in done.out
    assert mine.read_text() == "{}"


def test_what_has_no_digest_is_not_fetched(adem_bench, card, server):
    done = adem_bench("data", "fetch", card(), "--split", "val")
    assert done.code == 1
    assert (
        f"images/val: not fetched; no digest of it is published: get {server.url}/images/val.zip "
        "and unpack its folder val to there"
    ) in done.out
    assert "/images/val.zip" not in [path for path, _ in server.asked]
    assert "images/test" not in done.out
    every = adem_bench("data", "fetch", card(), "--split", "all")
    assert "images/test: fetched" in every.out
    assert "images/val: not fetched" in every.out


def test_an_archive_that_leads_out_of_its_folder_is_refused(adem_bench, card, server, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("test/../../../evil", b"x")
    body = packed.getvalue()
    server.files["/images/test.zip"] = body
    card.files[3] |= {"size": len(body), "md5": hashlib.md5(body).hexdigest()}
    done = adem_bench("data", "fetch", card())
    assert done.code == 2
    assert "leads out of its folder; nothing was unpacked" in done.err
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "../problems.json"}, "path '../problems.json' is none below the data root"),
        ({"path": "/etc/x"}, "path '/etc/x' is none below the data root"),
        ({"url": "file:///etc/hostname"}, "url 'file:///etc/hostname' is not http(s)"),
        ({"sha256": "123"}, "string should match pattern"),
    ],
)
def test_a_card_cannot_reach_elsewhere(adem_bench, card, change, message):
    card.files[0] |= change
    done = adem_bench("data", "fetch", card())
    assert done.code == 2
    assert message in done.err


def test_status_says_what_is_missing_where_it_is_and_on_which_terms(adem_bench, card, server):
    path = card()
    before = adem_bench("data", "status", path)
    assert before.code == 0
    assert "not there: data/scienceqa/problems.json is missing" in before.out
    assert "Apache-2.0" in before.out
    assert f"{server.url}/problems.json" in before.out
    adem_bench("data", "fetch", path)
    (task,) = json.loads(adem_bench("data", "status", path, "--format", "json").out)["tasks"]
    assert (task["state"], task["licence"], task["split"]) == ("there", "Apache-2.0", "test")
    assert all(file["there"] for file in task["files"])
    assert task["files"][0]["bytes_on_disk"] == task["files"][0]["bytes_to_fetch"]
    assert task["files"][3]["bytes_on_disk"] > 1_000_000
    (val,) = json.loads(
        adem_bench("data", "status", path, "--split", "val", "--format", "json").out
    )["tasks"]
    assert [file["fetched_by_command"] for file in val["files"]] == [True, True, True, False]


def test_status_notices_images_that_are_missing(adem_bench, fetched, tmp_path):
    images = tmp_path / "data" / "scienceqa" / "images"
    (images / "test").rename(images / "other")
    shown = adem_bench("data", "status", fetched)
    assert "not there: image data/scienceqa/images/test" in shown.out


def test_status_of_all_lists_every_card_once(adem_bench, tmp_path):
    shown = adem_bench("data", "status")
    assert shown.code == 0, shown.err
    words = shown.out.split()
    assert words.count("sqa") == words.count("mme") == 1
    assert "comes from the source mini when needed" in shown.out
    assert not (tmp_path / "data").exists()


def test_a_split_that_few_tasks_have(adem_bench):
    shown = adem_bench("data", "status", "--split", "minitest")
    assert shown.code == 0
    assert "sqa" in shown.out.split()
    assert "warning: task mme: unknown split 'minitest'" in shown.err
    assert adem_bench("data", "status", "mme", "--split", "minitest").code == 2


def test_verify_names_everything_that_is_wrong(adem_bench, fetched, tmp_path):
    folder = tmp_path / "data" / "scienceqa"
    problems = json.loads((folder / "problems.json").read_text())
    missing, empty, broken, *_ = sorted((folder / "images" / "test").rglob("image.png"))
    missing.unlink()
    empty.write_bytes(b"")
    broken.write_bytes(b"no image")
    bad = next(qid for qid, row in problems.items() if row["image"] is None)
    problems[bad]["answer"] = 17
    (folder / "problems.json").write_text(json.dumps(problems))
    done = adem_bench("data", "verify", fetched, "--images", "all")
    assert done.code == 1
    first, *lines = done.out.splitlines()
    assert first == "own, test: wrong (299 of 300 samples, 150 images, 147 opened)"
    for words in (
        "problems.json has ",
        f"{bad}: problems.json, question {bad}: `answer` must be the index of a choice",
        "split test has 299 samples, published are 300",
        f"sample {missing.parent.name}: image data/scienceqa/images/test/",
        f"sample {empty.parent.name}: image ",
        f"sample {broken.parent.name}: image ",
    ):
        assert any(words in line for line in lines), words
    assert sum("does not exist" in line for line in lines) == 1
    assert sum("is empty" in line for line in lines) == 1
    assert sum("cannot be read" in line for line in lines) == 1


def test_verify_opens_as_many_images_as_it_is_told(adem_bench, fetched, tmp_path):
    for path in (tmp_path / "data" / "scienceqa" / "images" / "test").rglob("image.png"):
        path.write_bytes(b"no image")
    none = adem_bench("data", "verify", fetched, "--images", "0", "--format", "json")
    assert none.code == 0
    (found,) = json.loads(none.out)["tasks"]
    assert (found["images"], found["opened"], found["problems"]) == (150, 0, [])
    all_of_them = adem_bench("data", "verify", fetched, "--images", "all")
    assert "and 145 more images" in all_of_them.out
    wrong = adem_bench("data", "verify", fetched, "--images", "some")
    assert wrong.code == 2
    assert "'some' is neither a number nor all" in wrong.err


def test_verify_without_names_takes_what_is_on_disk(adem_bench, fetched, tmp_path):
    for form in ("table", "json"):
        nothing = adem_bench("data", "verify", "--data-root", "x", "--format", form)
        assert nothing.code == 2
        assert "nothing to check: no task's data is on disk below x; `adem-b" in nothing.err
    shown = adem_bench("data", "verify", "--images", "5")
    assert shown.out.startswith("sqa, test: wrong (300 of 4,241 samples, 150 images, 5 opened)\n")
    assert shown.code == 1


def test_verify_of_data_that_is_not_there(adem_bench, card):
    done = adem_bench("data", "verify", card())
    assert done.code == 1
    assert "scienceqa/problems.json is missing" in done.out


def test_fetch_draws_from_the_hub(adem_bench, card, world, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))
    problems = json.loads((world / "problems.json").read_text())
    rows = []
    for qid, problem in problems.items():
        path = world / "images" / "test" / qid / "image.png"
        image = {"bytes": path.read_bytes(), "path": None} if problem["image"] else None
        rows.append(problem | {"image": image})
    rows.reverse()  # the questions' text says which is which
    (tmp_path / "hub").mkdir()
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "hub" / "test.parquet")
    source = f"data.source=hub:{tmp_path / 'hub'}"
    card.files[3:] = []
    path = card()
    done = adem_bench("data", "fetch", path, "--set", source)
    assert done.code == 0, done.err
    assert f"own from hub:{tmp_path / 'hub'}: in " in done.out
    checked = adem_bench("data", "verify", path, "--set", source, "--images", "all")
    assert checked.out.endswith("good (300 of 300 samples, 150 images, 150 opened)\n")


def test_hostile_names_are_shown_harmlessly(adem_bench, card):
    path = card(data={"licence": "\x1b[31mred", "url": "http://x/\x1b]0;title"})
    for arguments in (["status", path], ["fetch", path], ["verify", path]):
        done = adem_bench("data", *arguments)
        assert "\x1b" not in done.out + done.err


def test_mini_data_is_written_in_the_official_layouts(adem_bench, tmp_path):
    made = adem_bench("data", "mini", "--output", "root")
    assert (made.code, made.out) == (0, "wrote test below root\n")
    assert (tmp_path / "root" / "scienceqa" / "problems.json").is_file()
    assert (tmp_path / "root" / "MME_Benchmark_release_version").is_dir()


def test_the_task_says_that_it_is_there(adem_bench):
    adem_bench("data", "mini", "--output", "root")
    for task in ("mini_sqa", "mini_mme", "mini_caption"):
        assert "yes, below root" in adem_bench("tasks", "show", task, "--data-root", "root").out


def test_no_split_is_a_mistake(adem_bench):
    made = adem_bench("data", "mini", "--output", "root", "--splits", ",")
    assert made.code == 2
    assert made.err.startswith("error: --splits names none")


def test_an_unknown_split_is_a_mistake_with_the_nearest_name(adem_bench):
    done = adem_bench("data", "mini", "--output", "data", "--splits", "vall")
    assert done.code == 2
    assert "unknown split 'vall'; did you mean: val" in done.err


@pytest.mark.parametrize(
    ("task", "file", "content", "wrong"),
    [
        (
            "mmbench",
            "MMBench_DEV_EN.tsv",
            "index\timage\tquestion\tA\tB\n",
            "its MD5",
        ),
        ("mmbench", "MMBench_DEV_EN.tsv", "hello", "its first line is not a header"),
        ("sqa", "scienceqa/problems.json", "{", "not JSON"),
    ],
)
def test_a_file_that_is_there_and_wrong_is_not_said_to_be_missing(
    adem_bench, tmp_path, task, file, content, wrong
):
    path = tmp_path / "data" / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    (tmp_path / "data" / "scienceqa").mkdir(exist_ok=True)
    (tmp_path / "data" / "scienceqa" / "pid_splits.json").write_text("{}")
    shown = adem_bench("data", "status", task)
    assert "yes, and not as it should be" in shown.out
    assert "not there" not in shown.out
    assert "cannot be used: data/" in shown.out
    assert wrong in shown.out
    told = json.loads(adem_bench("data", "status", task, "--format", "json").out)
    assert told["tasks"][0]["state"] == "unusable"
    assert "cannot be used" in adem_bench("tasks", "show", task).out


def test_the_mini_world_is_not_said_to_be_missing(adem_bench):
    assert "when needed" in adem_bench("data", "status", "mini_mme").out
    assert "when needed" in adem_bench("data", "status", "mini_mme", "--data-root", "x").out
