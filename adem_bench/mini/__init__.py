"""The mini world: a small synthetic benchmark in the very layouts of the official data sets.

Scenes of coloured shapes, words, sums and places are drawn and asked about by a seeded
generator, so that the package holds a benchmark that fits in it and that nobody has trained
on. `world` makes scenes, `drawing` and `png` paint them, `text` says what can be said of
them, `questions`, `science` and `captions` make items, `writer` writes the official layouts.
"""

from adem_bench.mini.writer import DEFAULT_SEED, MINI_VERSION, SPLITS, write_mini

__all__ = ["DEFAULT_SEED", "MINI_VERSION", "SPLITS", "write_mini"]
