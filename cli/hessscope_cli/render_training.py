"""Training runs as tables on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from hessscope.pipeline import TrainingReport, TrialReport
from hessscope.training import METHODS, Epoch
from hessscope_cli.layout import add_fact, facts_table, plain_table

_ROWS = 12


def training(report: TrainingReport) -> list[RenderableType]:
    """A training run: setting, how it went, and where it ended."""
    facts = facts_table()
    known = report.facts
    add_fact(facts, "network", known["architecture"], *_sizes(known))
    held_out = known["test_examples"]
    tested = [] if held_out is None else [f"{held_out:,} held out"]
    data = f"{known['data']} {known['split']}, {known['examples']:,} examples"
    add_fact(facts, "data", data, *tested, *known["preprocessing"])
    penalty = f" + {known['l2']:g}/2·‖θ‖²" if known["l2"] else ""
    add_fact(facts, "loss", known["loss_function"] + penalty)
    options = known["options"]
    title = METHODS[options["optimizer"]].title
    add_fact(facts, "optimizer", title, *_how(options))
    parts: list[RenderableType] = [facts]
    if len(report.trials) == 1:
        (trial,) = report.trials
        parts.append(_epochs(trial))
        verdict = facts_table()
        add_fact(verdict, "stopped", trial.reason, f"{trial.history.last.seconds:.1f} s")
        norm, along = (trial.measured.get(name, math.nan) for name in ("gradient_norm", "gTHg"))
        if not math.isnan(norm):
            curvature = f"gᵀHg/gᵀg {along / norm**2:.4g}" if norm else "exactly zero"
            add_fact(verdict, "gradient norm", f"{norm:.4g}", curvature)
        parts.append(verdict)
    else:
        parts.append(_trials(report))
    return parts


def _sizes(known: Mapping[str, Any]) -> list[str]:
    found = [f"n = {known['parameters']:,}"] if "parameters" in known else []
    return found + ([f"from {known['start']}"] if known["start"] else [])


def _how(options: Mapping[str, Any]) -> list[str]:
    """The options that say most."""
    words = []
    if options.get("learning_rate") is not None:
        words.append(f"step {options['learning_rate']:g}")
    size = options["batch_size"]
    words.append("all examples a step" if size == "all" else f"batches of {size:,}")
    if not options["shuffle"] and size != "all":
        words.append("not shuffled")
    for name in ("momentum", "noise", "perturbation_radius"):
        if name in options:
            words.append(f"{name.replace('_', ' ')} {options[name]:g}")
    if options["initialization"] != "default":
        words.append(options["initialization"].replace("_", "-") + " initialization")
    return [*words, f"seed {options['seed']}"]


def _epochs(trial: TrialReport) -> Table:
    """Some epochs, the first and the last among them."""
    epochs = trial.history.epochs
    stride = max(1, math.ceil((len(epochs) - 1) / (_ROWS - 1)))
    shown = [e for i, e in enumerate(epochs) if i % stride == 0 and len(epochs) - 1 - i >= stride]
    columns = [
        (title, name, form)
        for title, name, form in (
            ("loss", "loss", "{:.6g}"),
            ("accuracy", "accuracy", "{:.2%}"),
            ("test loss", "test_loss", "{:.6g}"),
            ("test accuracy", "test_accuracy", "{:.2%}"),
            ("‖g‖", "gradient_norm", "{:.4g}"),
            ("gᵀHg", "gTHg", "{:.4g}"),
        )
        if any(not math.isnan(getattr(e, name)) for e in epochs)
    ]
    table = plain_table()
    for title in ("epoch", *(title for title, _, _ in columns)):
        table.add_column(title, justify="right")
    for row in (*shown, epochs[-1]):
        table.add_row(str(row.epoch), *(_cell(row, name, form) for _, name, form in columns))
    return table


def _cell(row: Epoch, name: str, form: str) -> str:
    value = getattr(row, name)
    return "" if math.isnan(value) else form.format(value)


def _trials(report: TrainingReport) -> Table:
    columns = [
        (title, name, form)
        for title, name, form in (
            ("loss", "loss", "{:.6g}"),
            ("accuracy", "accuracy", "{:.2%}"),
            ("test accuracy", "test_accuracy", "{:.2%}"),
            ("‖g‖", "gradient_norm", "{:.4g}"),
        )
        if any(name in trial.measured for trial in report.trials)
    ]
    table = plain_table()
    for title in ("trial", "epochs", *(title for title, _, _ in columns)):
        table.add_column(title, justify="right")
    table.add_column("stopped")
    for trial in report.trials:
        values = [
            form.format(trial.measured[name]) if name in trial.measured else ""
            for _, name, form in columns
        ]
        epochs = str(trial.history.last.epoch) if trial.history.epochs else "–"
        table.add_row(str(trial.trial), epochs, *values, trial.reason)
    summary = report.statistics()
    if summary:
        table.add_section()
        for word in ("mean", "std"):
            values = [
                form.format(summary[name][word]) if name in summary else ""
                for _, name, form in columns
            ]
            table.add_row(word, "", *values, "", style="bold" if word == "mean" else "")
    return table
