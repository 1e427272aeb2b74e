"""`adem-bench data`: data that the package makes itself."""

from __future__ import annotations

from pathlib import Path

import click

from adem_bench.cli.options import HintingGroup


@click.group(cls=HintingGroup)
def data() -> None:
    """Make the data of the mini benchmark."""


@data.command("mini")
@click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Data root to write into; created if missing.",
)
@click.option(
    "--splits", default="test", show_default=True, help="Comma-separated: train, val, test."
)
@click.option(
    "--train-size", type=click.IntRange(min=1), help="Items of each train split.  [default: 6000]"
)
@click.option("--seed", type=int, help="Chooses the items; other seeds give other questions.")
def mini(output: Path, splits: str, train_size: int | None, seed: int | None) -> None:
    """Write the mini world in the official data sets' layouts.

    The same options give the same bytes on every machine.
    """
    from adem_bench.data.mini import SPLITS, write_mini
    from adem_bench.errors import nearest_hint

    wanted = [split.strip() for split in splits.split(",") if split.strip()]
    for split in wanted:
        if split not in SPLITS:
            raise click.UsageError(f"unknown split {split!r}{nearest_hint(split, SPLITS)}")
    if not wanted:
        raise click.UsageError("--splits names none")
    given = {"train_size": train_size, "seed": seed}
    chosen = {name: value for name, value in given.items() if value is not None}
    write_mini(output, splits=wanted, **chosen)
    click.echo(f"wrote {', '.join(wanted)} below {output}")
