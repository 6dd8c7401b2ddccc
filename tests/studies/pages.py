"""Tables of studies in pages of the documentation."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).resolve().parents[2] / "docs"


def put(page: str, study: str, text: str) -> None:
    """Replace what stands between the marks of a study in a page."""
    path, end = DOCS / page, "<!-- end study -->\n"
    before, rest = path.read_text(encoding="utf-8").split(f"<!-- study: {study} -->\n", 1)
    after = rest.split(end, 1)[1]
    path.write_text(f"{before}<!-- study: {study} -->\n\n{text}\n{end}{after}", "utf-8")


def study(
    description: str,
    run: Callable[[int, Path], pd.DataFrame],
    table: Callable[[pd.DataFrame], str],
    draws: int,
    page: str,
    name: str,
) -> None:
    """Draw, resuming from a CSV file, print the table, and put that of all draws into the page."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("rows", type=Path, help="CSV file of the draws done so far")
    parser.add_argument("--draws", type=int, help="of each kind; the page stays as it is")
    options = parser.parse_args()
    text = table(run(options.draws or draws, options.rows))
    print(text)
    if options.draws is None:
        put(page, name, text)
