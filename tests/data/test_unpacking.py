"""Archives that are what they say, and archives that are not."""

from __future__ import annotations

import io
import random
import stat
import tarfile
import zipfile

import pytest

from adem_bench.data.unpacking import unpack
from adem_bench.errors import DataError

FILES = {"val/1.jpg": b"one", "val/deep/2.jpg": b"two", "other.txt": b"x"}


@pytest.fixture
def zipped(tmp_path):
    def make(files=FILES, change=None):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                if change:
                    change(info)
                archive.writestr(info, data)
        return path

    return make


@pytest.fixture
def tarred(tmp_path):
    def make(files=FILES, change=None):
        path = tmp_path / "a.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                if change:
                    change(info)
                archive.addfile(info, io.BytesIO(data))
        return path

    return make


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def left_over(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kind", ["zipped", "tarred"])
def test_the_wanted_folder_appears(request, tmp_path, kind):
    archive = request.getfixturevalue(kind)()
    assert unpack(archive, tmp_path / "images" / "val", "val") == 2
    assert content(tmp_path / "images" / "val") == {"1.jpg": b"one", "deep/2.jpg": b"two"}
    assert left_over(tmp_path / "images") == []
    assert unpack(archive, tmp_path / "all", ".") == 3


@pytest.mark.parametrize(
    "name", ["../out.jpg", "/out.jpg", "val/../../out.jpg", "C:out", "v\\..\\o"]
)
@pytest.mark.parametrize("kind", ["zipped", "tarred"])
def test_no_member_leaves_the_folder(request, tmp_path, kind, name):
    archive = request.getfixturevalue(kind)({"val/1.jpg": b"one", name: b"out"})
    with pytest.raises(DataError, match="leads out of its folder; nothing was unpacked"):
        unpack(archive, tmp_path / "in" / "val", "val")
    assert not list(tmp_path.rglob("*out*"))
    assert list((tmp_path / "in").iterdir()) == []


def link_in_zip(info):
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def link_in_tar(info):
    info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/hostname", 0


def hard_link_in_tar(info):
    info.type, info.linkname, info.size = tarfile.LNKTYPE, "val/1.jpg", 0


def device_in_tar(info):
    info.type, info.size = tarfile.CHRTYPE, 0


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("zipped", link_in_zip),
        ("tarred", link_in_tar),
        ("tarred", hard_link_in_tar),
        ("tarred", device_in_tar),
    ],
)
def test_links_and_devices_are_refused(request, tmp_path, kind, change):
    archive = request.getfixturevalue(kind)({"val/l": b"/etc/hostname"}, change)
    with pytest.raises(DataError, match="is a link or a device; nothing was unpacked"):
        unpack(archive, tmp_path / "val", "val")
    assert not (tmp_path / "val").exists()


@pytest.mark.parametrize("kind", ["zipped", "tarred"])
def test_a_bomb_is_stopped_by_what_it_writes(request, tmp_path, kind):
    archive = request.getfixturevalue(kind)({"val/0": bytes(3_000_000)})
    with pytest.raises(DataError, match="bytes, which is more than it should"):
        unpack(archive, tmp_path / "val", "val")
    assert not (tmp_path / "val").exists()
    assert left_over(tmp_path) == []
    assert unpack(archive, tmp_path / "val", "val", 3_000_000) == 1


def test_nothing_of_what_is_wanted(zipped, tmp_path):
    with pytest.raises(DataError, match="holds no file below 'train'"):
        unpack(zipped(), tmp_path / "train", "train")


@pytest.mark.parametrize("kind", ["zipped", "tarred"])
def test_a_broken_archive_is_named(request, tmp_path, kind):
    archive = request.getfixturevalue(kind)({"val/1": random.Random(0).randbytes(100_000)})
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    # A tar file's own sums cover its headers alone; one that is cut off is noticed.
    archive.write_bytes(data if kind == "zipped" else data[: len(data) // 2])
    with pytest.raises(DataError, match=r"a\..* cannot be unpacked"):
        unpack(archive, tmp_path / "val", "val")
    archive.write_bytes(b"no archive")
    with pytest.raises(DataError, match="neither a ZIP nor a tar file"):
        unpack(archive, tmp_path / "val", "val")
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    "names", [("val", "val/1.jpg"), ("val/1.jpg", "val"), ("val/1.jpg", "val/./1.jpg")]
)
@pytest.mark.parametrize("kind", ["zipped", "tarred"])
def test_members_in_each_others_place_are_named(request, tmp_path, kind, names):
    archive = request.getfixturevalue(kind)(dict.fromkeys(names, b"x"))
    with pytest.raises(DataError, match=r"is in the place of another; nothing was unpacked"):
        unpack(archive, tmp_path / "out", ".")
    assert left_over(tmp_path) == []


def test_the_folder_of_all_is_no_member_that_leads_out(tmp_path):
    path = tmp_path / "a.tar"
    (tmp_path / "1.jpg").write_bytes(b"one")
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path, "./", recursive=False)
        archive.add(tmp_path / "1.jpg", "./1.jpg")
    assert unpack(path, tmp_path / "out", ".") == 1


def not_utf8(path):
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))


def nameless(path):
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\0\0"))


@pytest.mark.parametrize("damage", [not_utf8, nameless])
def test_a_name_that_is_none_is_no_fault_of_ours(zipped, tmp_path, damage):
    path = zipped({"é": b"x"})
    damage(path)
    with pytest.raises(DataError, match=r"a\.zip cannot be unpacked"):
        unpack(path, tmp_path / "out", ".")


def sparse(info):
    info.pax_headers = {"GNU.sparse.map": "a,b"}


def sparse_of_version_1(info):
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}


def described_at_length(info):
    info.pax_headers = {"comment": "x" * (1 << 20)}


@pytest.mark.parametrize("change", [sparse, sparse_of_version_1, described_at_length])
def test_a_hostile_description_of_a_member_is_refused(tarred, tmp_path, change):
    with pytest.raises(DataError, match=r"a\.tar\.gz cannot be unpacked"):
        unpack(tarred({"1": b"x"}, change), tmp_path / "out", ".", 10)
