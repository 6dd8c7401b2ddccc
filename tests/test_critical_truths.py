"""No false status, certificate or kind on functions that are made to be taken for others."""

from __future__ import annotations

import pytest

from critical_truths import METHODS, SMOOTH, STATED, Known

# A kink at the start is said by a warning, which is another test's.
pytestmark = pytest.mark.filterwarnings("ignore::hessscope.errors.HessscopeWarning")

FAST = {
    *("relu", "mask", "floor", "−|x|", "TorchScript", "half curvature", "small kink"),
    *("separable", "exp", "exp underflows", "x⁶"),
}


def test_there_are_forty() -> None:
    assert len(STATED) >= 40
    assert len({known.name for known in STATED}) == len(STATED)
    assert {known.name for known in STATED} >= {*SMOOTH, *FAST}


@pytest.mark.parametrize("known", [k for k in STATED if k.name in FAST], ids=lambda k: k.name)
@pytest.mark.parametrize("method", ["newton", "krylov_sfn"])
def test_nothing_false_is_said(known: Known, method: str) -> None:
    known.check(method, known.starts[0])


@pytest.mark.slow
@pytest.mark.parametrize("known", STATED, ids=lambda k: k.name)
def test_nothing_false_is_said_by_any_method(known: Known) -> None:
    for method in METHODS:
        for start in known.starts:
            known.check(method, start)


@pytest.mark.parametrize("name", SMOOTH)
def test_regular_points_are_certified(name: str) -> None:
    (known,) = (known for known in STATED if known.name == name)
    point = known.check("newton", known.starts[0])
    assert point.certificate.certified
    assert point.classification == known.critical[0][1]
