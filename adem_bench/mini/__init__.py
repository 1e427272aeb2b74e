"""The mini world: a small synthetic benchmark in the very layouts of the official data sets.

Scenes of coloured shapes, words, sums and places are drawn and asked about by a seeded
generator, so that the package holds a benchmark that fits in it and that nobody has trained
on. `world` makes scenes, `drawing` paints them, `text` says what can be said of them, `items` and
`science` ask about them, `writer` writes the official layouts, `source` does so once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adem_bench.mini.writer import DEFAULT_SEED, SPLITS, write_mini

__all__ = ["DEFAULT_SEED", "SPLITS", "write_mini"]


def __getattr__(name: str) -> Any:
    """Import the generator when it is first asked for: data that is there needs none."""
    if name in __all__:
        from adem_bench.mini import writer

        return getattr(writer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
