"""What adem-bench calls of wandb, with the package's own names and keywords; runs stay in memory.

`test_real.py` holds these signatures against the real package where that is installed.
"""

from __future__ import annotations

from dataclasses import dataclass, field


class Settings:
    def __init__(
        self, *, console, disable_git, disable_code, x_disable_meta, x_disable_machine_info
    ) -> None:
        self.private = (
            console == "off"
            and disable_git and disable_code and x_disable_meta and x_disable_machine_info
        )  # fmt: skip


@dataclass
class Run:
    id: str
    name: str
    project: str
    dir: str
    config: dict = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)
    axes: dict = field(default_factory=dict)
    finished: bool = False

    def define_metric(self, name, step_metric=None):
        self.axes[name] = step_metric

    def log(self, data):
        assert not self.finished
        self.rows.append(dict(data))

    def finish(self):
        self.finished = True


RUNS: dict[str, Run] = {}


def init(*, project, dir, id, resume, name, config, allow_val_change, reinit, settings):
    assert (resume, reinit, allow_val_change) == ("allow", "create_new", True)
    assert settings.private
    run = RUNS.setdefault(id, Run(id, name, project, dir))
    run.finished = False
    run.config.update(config)
    return run
