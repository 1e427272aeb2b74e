"""`adem-bench report`: one page of runs."""

from __future__ import annotations

from pathlib import Path

import click

from adem_bench.cli.options import NamedPath, data_root_option, split_names, warn

FORMS = ("html", "png", "svg")


class Forms(click.ParamType[tuple[str, ...]]):
    """Names of formats, separated by commas."""

    name = "A,B"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names, each once.

        Args:
            value: As given.
            param: The option, for errors.
            ctx: The command, for errors.
        """
        names = split_names(str(value))
        unknown = [name for name in names if name not in FORMS]
        if unknown:
            self.fail(f"{unknown[0]!r} is not one of {', '.join(FORMS)}", param, ctx)
        return names


@click.command()
@click.argument("runs", nargs=-1, required=True, type=NamedPath(path_type=Path), metavar="RUN…")
@click.option(
    "--output",
    type=NamedPath(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    metavar="FILE",
    help="The page; plots as files go to a folder next to it, FILE without its suffix + `-plots`.",
)
@click.option(
    "--format",
    "forms",
    type=Forms(),
    default="html",
    show_default=True,
    help="html for the page, png and svg for its plots as files.",
)
@click.option(
    "--thumbnails",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    metavar="N",
    help="Images to show at most, for each task.",
)
@data_root_option
def report(
    runs: tuple[Path, ...],
    output: Path,
    forms: tuple[str, ...],
    thumbnails: int,
    data_root: Path | None,
) -> None:
    """Make one page of runs: figures, plots, differences, and every sample with its answers.

    RUN is the folder of a run, or a folder of several. The page is one file that needs no
    network. Prompts and images are shown where the data is available.
    """
    from adem_bench.files import write_atomically
    from adem_bench.results.report.page import report_parts, report_pieces, write_plots
    from adem_bench.results.runs import open_runs

    opened, warnings = open_runs(runs)
    warn(warnings)
    parts = report_parts(opened, data_root, thumbnails if "html" in forms else 0)
    warn(f"{part.name}: {note}" for part in parts for note in part.notes)
    if "html" in forms:
        write_atomically(output, report_pieces(parts))
        click.echo(f"wrote {output}: {len(opened)} run{'' if len(opened) == 1 else 's'}")
    plots = [form for form in forms if form != "html"]
    if plots:
        folder = output.with_name(f"{output.stem}-plots")
        files = write_plots(parts, folder, plots)
        click.echo(f"wrote {len(files)} plots to {folder}")
