"""Tables of a paper, with our numbers beside the paper's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hessscope.errors import OptionError
from hessscope.reports.layouts.table import ReportTable, problem_notes, setting_notes
from hessscope.reports.tables.points import QUANTITIES, mean_text
from hessscope.reports.tables.records import RecordSource, as_points
from hessscope.reports.texts import MISSING

MNIST, CIFAR10 = "MNIST", "CIFAR-10"
OURS, RULE, PAPER = "ours", "sankar2017 rule", "paper"

Value = tuple[float, float | None] | None
"""Mean and standard deviation as they are printed; accuracies in per cent."""

_DATA_SETS = {"mnist": MNIST, "cifar10": CIFAR10, "cifar-10": CIFAR10}
_RULE = (
    "our networks, counted as the paper's code does (float32, signs without a tolerance, zero only "
    "for rows that are exactly zero)"
)
_ACCURACY = (
    "accuracy: the paper's on its test data; ours, where the checkpoint does not say that of its "
    "test data, on the data of the Hessian"
)


@dataclass(frozen=True)
class PublishedTable:
    """A layout: a table of a paper, and ours beside it.

    Rows are matched by the name of the optimiser, the initialisation or the architecture in the
    records, or by the labels that were given, as the paper names them ("Momentum", "He",
    "784-25-25-10"); small differences in spelling do not matter. Rows that only one side has are
    there too. Shown are the data sets that the records are of, and the paper's beside.

    Attributes:
        number: where it stands in the paper.
        title: what it compares, in our words.
        by: the column of ``load_records`` by which its rows go.
        quantities: its columns: "positive", "negative", "zero", "accuracy".
        rows: for each data set and row its numbers, in the order of ``quantities``.
        remarks: what a reader has to know when comparing.
        remarks_on: the same for the rows of one data set.
        paper: what it is called, its citation, and what its numbers are over.
        names: its names of methods, by ours in small letters and digits.
    """

    number: str
    title: str
    by: str
    quantities: tuple[str, ...]
    rows: Mapping[tuple[str, str], tuple[Value, ...]]
    remarks: tuple[str, ...] = ()
    remarks_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    paper: tuple[str, str, int] = ("", "", 1)
    names: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, source: RecordSource) -> ReportTable:
        """Make the table of records.

        Returns:
            Its ``numbers`` have one row for each data set, row, quantity and source (ours, the
            paper's counting rule on our networks where the records have it, the paper), with mean,
            std, lower, upper and trials.

        Raises:
            OptionError: the records do not say what tells the rows apart.
        """
        table = as_points(source)
        tested = table["test_accuracy"].notna()
        table = table.assign(accuracy=table["accuracy"].where(~tested, table["test_accuracy"]))
        labels = table[self.by].where(table["label"].isna(), table["label"])
        if labels.isna().all():
            example = next(iter(self.rows))[1].lower().replace(" ", "-")
            raise OptionError(
                f"the records do not state their {self.by}, which tells the rows of "
                f"{self.number} apart: give labels, as in {example}=FOLDER"
            )
        names = labels.map(lambda v: MISSING if pd.isna(v) else self.row_name(str(v)))
        sets = [MISSING if pd.isna(v) else _DATA_SETS.get(v.lower(), v) for v in table["data"]]
        keys = pd.Series(list(zip(sets, names, strict=True)), table.index)
        known = [key for key in self.rows if key[0] in set(sets)] or list(self.rows)
        order = [*known, *(key for key in dict.fromkeys(keys) if key not in known)]
        rows = [row for key in order for row in self._comparison(table[keys == key], key)]
        numbers = pd.DataFrame(rows)
        shown = self._shown(numbers.assign(text=list(map(_text, rows))), order)
        trials = Counter(keys)
        shown.insert(2, ("trials", ""), [str(trials[key] or MISSING) for key in order])
        called, _, _ = self.paper
        return ReportTable(
            f"{self.title}: ours beside {self.number} of {called}",
            numbers,
            shown,
            tuple(self._notes(table, dict.fromkeys(data for data, _ in order))),
        )

    def row_name(self, value: str) -> str:
        """The paper's name for a method, an initialisation or an architecture; else ``value``.

        Args:
            value: as our records have it, such as "noisy_sgd" or "mlp:784-25-25-10:relu".
        """
        if self.by == "architecture":
            widths = re.fullmatch(r"(?:mlp:)?(\d+(?:[-x×]\d+)+)(?::.*)?", value.replace(" ", ""))
            return re.sub(r"[x×]", "-", widths[1]) if widths else value
        return self.names.get(re.sub(r"[^a-z0-9]", "", value.lower()), value)

    def _comparison(self, chosen: pd.DataFrame, key: tuple[str, str]) -> list[dict[str, Any]]:
        """Every number of one row, by quantity and source."""
        rows: list[dict[str, Any]] = []

        def add(name: str, source: str, trials: int, found: Mapping[str, float]) -> None:
            taus = chosen["tolerance"] if source == OURS else pd.Series([np.nan])
            row = {"data": key[0], self.by: key[1], "quantity": name, "source": source}
            ends = {"tolerance_lower": taus.min(), "tolerance_upper": taus.max()}
            rows.append({**row, **found, "trials": trials, **ends})

        papers = self.rows.get(key, (None,) * len(self.quantities))
        for name, printed in zip(self.quantities, papers, strict=True):
            quantity, rule = QUANTITIES[name], f"sankar2017_{name}"
            if len(chosen):
                ours = quantity.mean(chosen).items()
                trials = chosen[quantity.column].notna().sum()
                add(name, OURS, trials, {end: quantity.scale * value for end, value in ours})
            if quantity.counted and chosen[rule].notna().any():
                add(name, RULE, chosen[rule].notna().sum(), quantity.mean(chosen, rule))
            if printed is not None:
                mean, std = printed
                found = {"mean": mean, "std": np.nan if std is None else std}
                add(name, PAPER, self.paper[2], found)
        return rows

    def _shown(self, texts: pd.DataFrame, order: list[tuple[str, str]]) -> pd.DataFrame:
        """The texts of the numbers, the sources of a quantity side by side."""
        wide = texts.pivot(index=["data", self.by], columns=["quantity", "source"], values="text")
        columns = [(name, source) for name in self.quantities for source in (OURS, RULE, PAPER)]
        columns = [column for column in columns if column[1] != RULE or column in wide]
        wide = wide.reindex(index=order, columns=columns).fillna(MISSING)
        heads = [("data", ""), (self.by, "")]
        titles = [(QUANTITIES[name].title, source) for name, source in columns]
        rows = [(*key, *row) for key, row in zip(order, wide.to_numpy(), strict=True)]
        return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples([*heads, *titles]))

    def _notes(self, table: pd.DataFrame, data_sets: Mapping[str, None]) -> list[str]:
        _, citation, trials = self.paper
        over = f"mean ± standard deviation over {trials} trials"
        printed = f"paper: {citation}, {self.number}, {over}"
        if any(QUANTITIES[name].counted for name in self.quantities):
            there = table["sankar2017_zero"].notna().any()
            notes = [
                *setting_notes(table),
                f"{printed}; signs without a tolerance, zero means exactly 0.0",
                f"{RULE}: {_RULE if there else 'not in these records'}",
            ]
        else:
            notes = [*problem_notes(table), printed]
        if "accuracy" in self.quantities and not table["test_accuracy"].notna().all():
            notes.append(_ACCURACY)
        on_sets = (self.remarks_on.get(data, ()) for data in data_sets)
        return [*notes, *self.remarks, *(remark for remarks in on_sets for remark in remarks)]


def _text(number: dict[str, Any]) -> str:
    if number["source"] != PAPER:
        return mean_text(**number)
    deviation = "" if np.isnan(number["std"]) else f" ± {number['std']:g}"  # as it is printed
    return f"{number['mean']:,}{deviation}"
