from __future__ import annotations

import json
import math

import numpy as np
from PIL import Image

from adem_bench.trainers.batch_sampler import Position
from adem_bench.trainers.loop import StepReport
from adem_bench.trainers.training_log import TrainingLog, draw_loss_curve, last_logged, read_log


def report(step: int, **more) -> StepReport:
    fields = {
        "step": step, "position": Position(0, step), "epoch": 0.1, "loss": 1.0 / step,
        "learning_rate": 1e-3, "grad_norm": 0.5, "scale": 1.0, "skipped": False,
        "samples_per_second": 3.0,
    }  # fmt: skip
    return StepReport(**fields | more)


class Kept:
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log(self, step, scalars) -> None:
        self.logged.append((step, dict(scalars)))

    def close(self) -> None:
        raise AssertionError("whoever made the logger closes it")


def write(folder, steps, done=0) -> Kept:
    logger = Kept()
    log = TrainingLog(folder, done, logger)
    for step in steps:
        log.write(step)
    log.close()
    return logger


def test_every_line_is_strict_json_even_where_half_precision_overflows(tmp_path):
    write(tmp_path, [report(1, grad_norm=math.inf), report(2, loss=math.nan), report(3)])

    def refuse(name):
        raise AssertionError(name)

    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    found = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [line["grad_norm"] for line in found] == [None, 0.5, 0.5]
    assert [line["loss"] for line in found] == [1.0, None, 1 / 3]


def test_going_on_drops_later_and_torn_lines(tmp_path):
    write(tmp_path, [report(step) for step in range(1, 6)])
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "lo')
    write(tmp_path, [report(4, loss=9.0)], done=3)
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1, 2, 3, 4]
    assert read_log(tmp_path / "log.jsonl")[-1]["loss"] == 9.0


def test_lines_that_nobody_here_wrote_are_dropped_or_written_as_json(tmp_path):
    nested = '{"step": 1, "position": {"epoch": NaN, "step": [-Infinity, 1e999]}, "loss": 2.0}'
    odd = [f'{{"step": {step}, "loss": 1.0}}' for step in ("-1" + "0" * 300, "1e3", "true", "NaN")]
    (tmp_path / "log.jsonl").write_text("\n".join([nested, *odd]))
    write(tmp_path, [report(2, loss=math.inf)], done=1)
    first, second = read_log(tmp_path / "log.jsonl")
    assert first["position"] == {"epoch": None, "step": [None, None]}
    assert second["step"] == 2
    draw_loss_curve([first | {"learning_rate": 1e-3}, second], tmp_path / "loss.png", "title")


def test_the_curve_goes_on_after_a_loss_that_is_none(tmp_path):
    write(tmp_path, [report(s, loss=math.nan if s == 3 else 0.5 + s / 200) for s in range(1, 60)])
    draw_loss_curve(read_log(tmp_path / "log.jsonl"), tmp_path / "loss.png", "title")
    with Image.open(tmp_path / "loss.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    is_bold = (pixels == (31, 78, 156)).all(axis=-1)
    columns = np.flatnonzero(is_bold[: len(pixels) * 3 // 4].any(axis=0))
    assert columns.max() - columns.min() > 0.6 * pixels.shape[1]


def test_loggers_are_given_the_figures_of_steps_and_evaluations(tmp_path):
    logger = Kept()
    log = TrainingLog(tmp_path, 0, logger)
    log.write(report(1, loss=2.5))
    log.write_evaluation({"step": 1, "epoch": 1, "mini_mme accuracy": 0.5, "other": None})
    log.close()
    (first, scalars), evaluation = logger.logged
    assert (first, scalars["loss"], scalars["learning_rate"]) == (1, 2.5, 1e-3)
    assert evaluation == (1, {"evaluation/mini_mme accuracy": 0.5})
    log = read_log(tmp_path / "log.jsonl")
    assert last_logged(log) == dict.fromkeys(scalars, 1) | {"evaluation/mini_mme accuracy": 1}


def test_the_curves_ticks_are_whole_steps(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig

    def keep(figure, *more, **options):
        save(figure, *more, **options)
        drawn.extend(figure.axes[0].get_xticks())

    monkeypatch.setattr(Figure, "savefig", keep)
    write(tmp_path, [report(step) for step in (1, 2, 3)])
    draw_loss_curve(read_log(tmp_path / "log.jsonl"), tmp_path / "loss.png", "title")
    assert drawn
    assert all(tick == round(tick) for tick in drawn)
