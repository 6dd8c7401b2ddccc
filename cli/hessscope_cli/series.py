"""``hessscope spectrum`` on several checkpoints: one table, one record, one figure."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from hessscope.errors import HessscopeError
from hessscope.options.spectrum import SpectrumOptions
from hessscope.pipeline import SeriesEntry, SeriesReport, compute_series
from hessscope.pipeline.outputs import save_figure
from hessscope.pipeline.series import with_default_record
from hessscope_cli import terminal
from hessscope_cli.commands import Screen, answer
from hessscope_cli.exit_codes import INTERRUPTED
from hessscope_cli.layout import add_fact, facts_table, plain_table


def command(options: SpectrumOptions, screen: Screen) -> int | None:
    """Compute what is missing, show the whole series, and give the exit code."""
    report = answer(
        with_default_record(options),
        screen,
        compute_series,
        save_figure,
        show=tables,
        content=SeriesReport.as_list,
    )
    if report.interrupted:
        terminal.show_error(
            f"interrupted; {len(report.done)} of {report.total} results are in {report.record}: "
            "rerun the command to resume"
        )
        return INTERRUPTED
    if report.failed:
        # Each cause was printed when it came up, unless --quiet.
        causes = {entry.error: entry.checkpoint for entry in reversed(report.failed)}
        named = "; ".join(f"{path}: {cause}" for cause, path in reversed(causes.items()))
        what = named if screen.quiet else ", ".join(entry.checkpoint for entry in report.failed)
        raise HessscopeError(f"{len(report.failed)} of {report.total} checkpoints failed: {what}")
    return None


def tables(report: SeriesReport) -> list[RenderableType]:
    """What is common to the checkpoints, and a row for each."""
    parts: list[RenderableType] = []
    done = report.done
    # A tolerance that is the same for all is shown once.
    common_tau = len({entry.number("tolerance") for entry in done}) == 1
    if done:
        parts.append(_common(done, common_tau))
    several = len({entry.run for entry in report.entries}) > 1
    first = "epoch" if report.by_epoch else "checkpoint"
    titles = (
        *(["run"] if several else []), first, "loss", "accuracy", "‖g‖", "gᵀHg/gᵀg",
        "λ min", "λ max", *([] if common_tau else ["τ"]), "index", "degeneracy",
    )  # fmt: skip
    # Files are told apart by the whole of their names.
    table = plain_table(*titles, left=("run", "checkpoint"))
    table.padding = (0, 1, 0, 0)  # ten columns have to fit
    for entry in report.entries:
        names = [entry.run] if several else []
        name = Text(Path(entry.checkpoint).name)
        if entry.result is None:
            table.add_row(*names, name, Text("failed", "red"))
        else:
            shown = f"{entry.epoch:g}" if report.by_epoch else name
            table.add_row(*names, shown, *_numbers(entry, common_tau))
    parts.append(table)
    return parts


def _common(done: tuple[SeriesEntry, ...], common_tau: bool) -> RenderableType:
    facts = facts_table()
    results = [entry.result or {} for entry in done]
    for title, keys in (
        ("network", ("architecture",)),
        ("data", ("data", "split")),
        ("loss", ("loss_function",)),
        ("backend", ("backend", "dtype")),
        ("parameters n", ("parameters",)),
        *([("tolerance τ", ("tolerance",))] if common_tau else []),
    ):
        values = list(dict.fromkeys(", ".join(_text(r.get(k)) for k in keys) for r in results))
        shown = values[0] if len(values) == 1 else f"{values[0]}, … ({len(values)} kinds)"
        remarks = []
        if title == "data" and len({r.get("examples") for r in results}) == 1:
            remarks.append(f"{results[0].get('examples'):,} examples")
        add_fact(facts, title, shown, *remarks)
    confidences = [float(r["index"]["confidence"]) for r in results if r.get("index")]
    if confidences:
        lowest = min(confidences)
        shown = "within rounding" if lowest == 1.0 else f"at {lowest:.0%} confidence"
        add_fact(facts, "intervals", shown)
    return facts


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _numbers(entry: SeriesEntry, common_tau: bool) -> list[str | Text]:
    squares, along = entry.number("gTg"), entry.number("gTHg")
    accuracy = entry.number("accuracy")
    cells: list[str | Text] = [
        f"{entry.number('loss'):.5g}",
        "" if accuracy != accuracy else f"{accuracy:.2%}",
        f"{entry.number('gradient_norm'):.3g}",
        f"{along / squares:.3g}" if squares and along == along else "",
    ]
    for name in ("lambda_min", "lambda_max", *([] if common_tau else ["tolerance"])):
        value = entry.number(name)
        cells.append("" if value != value else f"{value:.{2 if name == 'tolerance' else 3}g}")
    for name in ("index", "degeneracy"):
        count = (entry.result or {}).get(name)
        if count is None:
            cells.append("")
            continue
        shown = f"{count['estimate']:,}{'' if count.get('usable', True) else '?'}"
        if count["lower"] != count["upper"]:
            shown += f" [{count['lower']:,}, {count['upper']:,}]"
        cells.append(shown)
    return cells
