"""Training runs as tables on the terminal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from hessscope.pipeline import TrainingReport, TrialReport
from hessscope.registry import OPTIMIZERS
from hessscope_cli.layout import add_data, add_fact, add_loss, facts_table, plain_table

_ROWS = 12
_COLUMNS = {
    "loss": ("loss", "{:.6g}"),
    "accuracy": ("accuracy", "{:.2%}"),
    "test_loss": ("test loss", "{:.6g}"),
    "test_accuracy": ("test accuracy", "{:.2%}"),
    "gradient_norm": ("‖g‖", "{:.4g}"),
    "gTHg": ("gᵀHg", "{:.4g}"),
}


def training(report: TrainingReport) -> list[RenderableType]:
    """A training run: setting, how it went, and where it ended."""
    facts = facts_table()
    known, start = report.facts, report.facts["start_checkpoint"]
    size = [f"n = {known['parameters']:,}"] if "parameters" in known else []
    add_fact(facts, "network", known["architecture"], *size, *[f"from {start}"] * bool(start))
    held_out = known["test_examples"]
    add_data(facts, known, *([] if held_out is None else [f"{held_out:,} held out"]))
    add_loss(facts, known)
    options = known["configuration"]
    name = options["optimizer"]
    title = OPTIMIZERS[name].title if name in OPTIMIZERS else name
    add_fact(facts, "optimizer", title, *_how(options))
    if len(report.trials) > 1:
        return [facts, _trials(report)]
    (trial,) = report.trials
    verdict = facts_table()
    add_fact(verdict, "stopped", trial.reason, f"{trial.history.last.seconds:.1f} s")
    norm, along = (trial.measured.get(name, math.nan) for name in ("gradient_norm", "gTHg"))
    if not math.isnan(norm):
        curvature = f"gᵀHg/gᵀg {along / norm**2:.4g}" if norm else "exactly zero"
        add_fact(verdict, "gradient norm", f"{norm:.4g}", curvature)
    return [facts, _epochs(trial), verdict]


def _how(options: Mapping[str, Any]) -> list[str]:
    """The options that say most."""
    words = []
    if "learning_rate" in options:
        words.append(f"step {options['learning_rate']:g}")
    size = options["batch_size"]
    words.append("all examples a step" if size == "all" else f"batches of {size:,}")
    if not options["shuffle"] and size != "all":
        words.append("not shuffled")
    for name in ("momentum", "noise", "perturbation_radius"):
        if name in options:
            words.append(f"{name.replace('_', ' ')} {options[name]:g}")
    if options["initialization"] != "default":
        words.append(f"{options['initialization']} initialization")
    return [*words, f"seed {options['seed']}"]


def _epochs(trial: TrialReport) -> Table:
    """Some epochs, the first and the last among them."""
    epochs = trial.history.epochs
    stride = max(1, math.ceil((len(epochs) - 1) / (_ROWS - 1)))
    shown = [e for i, e in enumerate(epochs) if i % stride == 0 and len(epochs) - 1 - i >= stride]
    measured = trial.history.columns()
    names = [name for name in _COLUMNS if name in measured]
    table = plain_table("epoch", *_titles(names))
    for epoch in (*shown, epochs[-1]):
        table.add_row(str(epoch.epoch), *_cells(dataclasses.asdict(epoch), names))
    return table


def _trials(report: TrainingReport) -> Table:
    """Where each trial ended, and their mean and standard deviation."""
    wanted = ("loss", "accuracy", "test_accuracy", "gradient_norm")
    names = [n for n in wanted if any(n in trial.measured for trial in report.trials)]
    table = plain_table("trial", "epochs", *_titles(names))
    table.add_column("stopped")
    for trial in report.trials:
        epochs = str(trial.history.last.epoch) if trial.history.epochs else "–"
        table.add_row(str(trial.trial), epochs, *_cells(trial.measured, names), trial.reason)
    if summary := report.statistics():
        table.add_section()
        for word in ("mean", "std"):
            values = {name: found[word] for name, found in summary.items()}
            table.add_row(word, "", *_cells(values, names), "")
    return table


def _titles(names: Iterable[str]) -> list[str]:
    return [_COLUMNS[name][0] for name in names]


def _cells(values: Mapping[str, float], names: Iterable[str]) -> list[str]:
    """Numbers as text; nothing for what was not measured."""
    known = {name: x for name, x in values.items() if not math.isnan(x)}
    return [_COLUMNS[name][1].format(known[name]) if name in known else "" for name in names]
