"""A multiple-choice question as ScienceQA has them."""

from __future__ import annotations

from dataclasses import dataclass

from adem_bench.mini.world import Scene


@dataclass(frozen=True, slots=True)
class Problem:
    """One multiple-choice question, in ScienceQA's terms."""

    question: str
    choices: tuple[str, ...]
    answer: int
    subject: str
    topic: str
    skill: str
    lecture: str
    solution: str
    hint: str = ""
    scene: Scene | None = None
    grade: int = 1

    @property
    def task(self) -> str:
        """`yes or no` or `closed choice`."""
        return "yes or no" if set(self.choices) == {"yes", "no"} else "closed choice"

    def key(self) -> str:
        """Return what decides the split: the scene, or all the text."""
        if self.scene is not None:
            return self.scene.key()
        return repr((self.question, self.hint, self.choices))
