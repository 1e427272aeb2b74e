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
