"""What libraries do under a limit on memory that cannot be caught is found out beforehand."""

from __future__ import annotations

import resource
import sys

import pytest

from adem_bench import memory_limit
from adem_bench.errors import lacks_memory
from adem_bench.memory_limit import tried_under_limit, try_libraries

MODULES = {
    "well": "",
    "aborts": "import os; os.abort()",
    "waits_for_ever": "while True: pass",
    "asks_for_too_much": "raise MemoryError",
    "cannot_be_mapped": "raise ImportError('libtorch.so: failed to map segment')",
    "says_it_first": r"raise ImportError('libblas.so: failed to map segment\n\nSee the manual.\n')",
    "ends_the_process": "import sys; sys.exit('OpenBLAS error: Memory allocation still failed')",
    "is_broken": "raise ImportError('of another version')",
}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Modules that another process can load."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("name", MODULES)
def test_a_library_is_tried_in_another_process(modules, name):
    if name in ("well", "is_broken"):  # of which importing it tells
        try_libraries(["json", name], 1 << 20, 1)
        return
    with pytest.raises(MemoryError, match=name) as raised:
        try_libraries(["json", name], 1 << 20, 1)
    assert lacks_memory(raised.value)


def test_libraries_are_tried_once_and_only_under_a_limit(modules, monkeypatch):
    tried = []
    monkeypatch.setattr(memory_limit, "LIBRARIES", ("json", "well", "aborts"))
    monkeypatch.setattr(memory_limit, "try_libraries", lambda names, held: tried.append(names))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    finders = list(sys.meta_path)
    for soft in (limit, 1 << 45, 1 << 33):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, soft=soft: (soft, soft))
        for _ in range(2):
            with tried_under_limit():
                import well  # noqa: F401 - one of the modules
        del sys.modules["well"]
    assert tried == [["json", "well"]]
    assert sys.meta_path == finders


def test_a_library_is_tried_again_if_someone_goes_on_without_it(modules, monkeypatch):
    tried = []

    def refuse(names, held):
        tried.append(names)
        raise MemoryError

    monkeypatch.setattr(memory_limit, "LIBRARIES", ("aborts",))
    monkeypatch.setattr(memory_limit, "try_libraries", refuse)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 33, 1 << 33))
    with tried_under_limit():
        for _ in range(2):
            with pytest.raises(MemoryError):
                import aborts  # noqa: F401 - one of the modules
    assert tried == [["aborts"]] * 2


MORE = "taken = bytearray(256 << 20)"
"""A library that takes much memory."""


def test_the_trial_of_a_library_counts_what_others_have_taken(modules, tmp_path, monkeypatch):
    (tmp_path / "large.py").write_text(MORE)
    (tmp_path / "larger.py").write_text(MORE)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_limit.bytes_in_use() + (1 << 30)
    monkeypatch.setattr(memory_limit, "SPARE", 0)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        try_libraries(["large", "larger"], limit - (384 << 20))  # the first is in use, not more
        with pytest.raises(MemoryError, match="large, larger"):
            try_libraries(["large", "larger"], limit - (128 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_openblas_has_its_memory_before_others_take_it(monkeypatch):
    products = []

    class Numbers:
        def __matmul__(self, other):
            products.append(other)

    class Numpy:
        class __spec__:  # noqa: N801 - as modules have it
            _initializing = True

        ones = staticmethod(lambda shape: Numbers())

    monkeypatch.setitem(sys.modules, "numpy", Numpy)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 33, 1 << 33))
    with tried_under_limit():
        finder = sys.meta_path[0]
        finder.find_spec("datetime")
        assert not products  # numpy is not whole yet
        Numpy.__spec__._initializing = False
        finder.find_spec("datetime")
        finder.find_spec("datetime")
    assert len(products) == 1
