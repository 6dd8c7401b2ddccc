"""Results in the hands of a user: counts as numbers, unusable estimates, short texts."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import hessscope as hs
from cli_runs import PARAMETERS, Run


def test_a_count_calculates_as_its_estimate() -> None:
    count, other = hs.CountInterval(90, 120, 300, 0.95), hs.CountInterval(1, 5, 9, 1.0)
    assert (int(count), float(count), np.arange(200)[count]) == (120, 120.0, 120)
    assert count > 100
    assert not count < 100
    assert 119.5 <= count <= 120
    assert other < count
    assert not other >= count
    assert (count + 1, 1 + count, count - 1, 500 - count, 2 * count) == (121, 121, 119, 380, 240)
    assert (count / 240, 240 / count, count + other, sum([count, other])) == (0.5, 2.0, 125, 125)
    assert not hs.CountInterval(0, 0, 3, 1.0)
    assert f"{count:>6,d}|{count}" == "   120|120 [90, 300]"
    with pytest.raises(TypeError):
        _ = count < "120"


def test_equal_counts_have_equal_hashes() -> None:
    count = hs.CountInterval(90, 120, 300, 0.95)
    assert count == hs.CountInterval(90, 120, 300, 0.95)
    assert count != hs.CountInterval(90, 120, 301, 0.95)
    assert count == 120 == count
    assert count != 121
    assert count != "120"
    assert hash(count) == hash(120) == hash(hs.CountInterval(90, 120, 300, 0.95))


@pytest.mark.parametrize("steps", [2, 43])
def test_json_and_text_mark_the_same_estimates(run: Run, work: Path, steps: int) -> None:
    arguments = ("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh",
                 "--backend", "lanczos", "--steps", steps, "--tolerance", "1e-3")  # fmt: skip
    shutil.copy("model.pt", "other.pt")
    said, text = run(*arguments, "--json").json, run(*arguments).out
    series = run(*arguments[:2], "other.pt", *arguments[2:]).out
    for name in ("index", "degeneracy"):
        count = said[name]
        wide = count["upper"] - count["lower"] > PARAMETERS / 10
        assert count["usable"] is not wide
        shown = re.search(rf"{name}\s+{count['estimate']}(\??)\s", text)
        assert shown is not None
        assert bool(shown[1]) is wide
        assert (f"{count['estimate']}? [{count['lower']}, {count['upper']}]" in series) is wide
    assert said["degeneracy"]["usable"] is (steps == 43)
