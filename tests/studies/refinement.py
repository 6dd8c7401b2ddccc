"""How often each method finds a critical point of small networks, and at what cost.

    PYTHONPATH=tests python -m studies.refinement --folder build/refinement --starts 100

One hidden layer on the handwritten digits of scikit-learn, or on MNIST resized to 10x10. Each
search is one line of a file in the folder, so that an interrupted study goes on where it was;
``--table`` prints the tables of what there is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import hessscope as hs

DATA = ("digits", "mnist10")
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}
LOSSES = {
    "cross-entropy": ("cross_entropy", 0.0),
    "cross-entropy, L2 1e-3": ("cross_entropy", 1e-3),
    "MSE": ("mse", 0.0),
    "MSE, L2 1e-4": ("mse", 1e-4),
}
METHODS = ("newton", "damped_newton", "newton_mr", "gradient_norm", "sfn", "krylov_sfn")
# Standard deviations of the starts' weights, times 1/√inputs.
SCALES = (1.0, 0.3, 0.1)
SUCCESS = 1e-10  # ‖g‖ with ‖g‖² < 1e-20


@dataclass(frozen=True)
class Problem:
    """A network on its data.

    Attributes:
        data: "digits" or "mnist10".
        activation: a name from ``ACTIVATIONS``.
        loss: a name from ``LOSSES``.
    """

    data: str
    activation: str
    loss: str

    def risk(self) -> hs.EmpiricalRisk:
        """The objective: 64-3-10 on 300 digits, 100-3-10 on 300 images of MNIST."""
        if self.data == "digits":
            data = hs.load_data("digits", subset=300)
        else:
            data = hs.load_data("mnist", subset=300, resize=10)
        inputs = data.inputs.flatten(1).double()
        network = nn.Sequential(
            nn.Linear(inputs.shape[1], 3), ACTIVATIONS[self.activation](), nn.Linear(3, 10)
        )
        loss, l2 = LOSSES[self.loss]
        return hs.EmpiricalRisk(network, (inputs, data.targets), loss, l2=l2, device="cpu")


def start(risk: hs.EmpiricalRisk, number: int) -> torch.Tensor:
    """Gaussian weights and biases, the scale by turns."""
    stream = torch.Generator().manual_seed(number)
    scale = SCALES[number % len(SCALES)]
    parts = []
    for shape in risk.layout.shapes:
        width = shape[-1] if len(shape) > 1 else 1
        normal = torch.randn(shape, generator=stream, dtype=torch.float64)
        parts.append(scale / width**0.5 * normal.flatten())
    return torch.cat(parts)


def search(risk: hs.EmpiricalRisk, method: str, number: int) -> dict[str, Any]:
    """One search, as a line of the file."""
    point = hs.refine(risk, method, start=start(risk, number), backend="exact")
    last = point.trace[-1]
    return {
        "start": number,
        "status": point.status,
        "level": point.certificate.level,
        "loss": point.loss,
        "gradient_norm": point.gradient_norm,
        "parameter_norm": last.parameter_norm,
        "iterations": point.iterations,
        "hessians": last.hessians,
        "hvps": last.hvps,
        "gradients": last.gradients,
        "seconds": last.seconds,
        "index": None if point.inertia is None else point.inertia.negative.estimate,
        "degeneracy": None if point.inertia is None else point.inertia.zero.estimate,
        "classification": point.classification,
        "radius": point.certificate.radius,
        # Enough of the spectrum to tell points apart.
        "spectrum": []
        if not isinstance(point.spectrum, hs.Spectrum)
        else [float(x) for x in point.spectrum.eigenvalues[[0, 1, 2, -3, -2, -1]]],
    }


def distinct(lines: list[dict[str, Any]]) -> int:
    """Number of critical points that differ in loss, inertia or extreme eigenvalues."""
    found: list[dict[str, Any]] = []
    for line in lines:
        if not any(_same(line, other) for other in found):
            found.append(line)
    return len(found)


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return (
        abs(a["loss"] - b["loss"]) <= 1e-9
        and a["index"] == b["index"]
        and np.allclose(a["spectrum"], b["spectrum"], rtol=1e-5, atol=1e-9)
    )


def _lines(folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Searches of the study by problem and method."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text("utf-8").splitlines():
            line = json.loads(text)
            grouped[line["problem"], line["method"]].append(line)
    return grouped


def _success(line: dict[str, Any]) -> bool:
    return line["gradient_norm"] < SUCCESS and line["level"] != "residual-only"


def _percent(hits: int, of: int) -> str:
    return f"{100 * hits / of:.0f} %"


def _span(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


def _norm(loss: str, lines: list[dict[str, Any]]) -> str:
    """Median ‖θ‖ at the end, where no penalty holds it back."""
    if LOSSES[loss][1] > 0:
        return "–"
    return f"{statistics.median(line['parameter_norm'] for line in lines):.3g}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def success_table(folder: Path) -> str:
    """Part of the starts that end in success, a row for each problem, a column for each method."""
    grouped = _lines(folder)
    rows = [_row(("problem", *METHODS)), "|---" * (1 + len(METHODS)) + "|"]
    for problem in map(", ".join, itertools.product(DATA, ACTIVATIONS, LOSSES)):
        cells = []
        for method in METHODS:
            lines = grouped.get((problem, method), [])
            hits = sum(map(_success, lines))
            cells.append(f"{_percent(hits, len(lines))} of {len(lines)}" if lines else "–")
        rows.append(_row((problem, *cells)))
    return "\n".join(rows)


def method_table(folder: Path) -> str:
    """How searches end and what they take, a row for each loss and method."""
    grouped = _lines(folder)
    endings = (
        "converged",
        "flat_at_tolerance",
        "gradient_flat",
        "diverging",
        "step_too_small",
        "max_iterations",
    )
    spent = {
        "iterations": "steps",
        "hessians": "Hessians",
        "hvps": "products",
        "gradients": "gradients",
        "seconds": "seconds",
    }
    heads = ("loss", "method", "searches", "‖g‖² < 1e-20", "certified", *endings)
    heads += ("index", "distinct points", "‖θ‖", *spent.values())
    rows = [_row(head.replace("_", " ") for head in heads), "|---" * len(heads) + "|"]
    for loss, method in itertools.product(LOSSES, METHODS):
        names = map(", ".join, itertools.product(DATA, ACTIVATIONS, [loss]))
        problems = [grouped[name, method] for name in names if (name, method) in grouped]
        lines = list(itertools.chain(*problems))
        if not lines:
            continue
        ends = [[line for line in one if _success(line)] for one in problems]
        hits = (
            sum(line["gradient_norm"] < SUCCESS for line in lines),
            sum(line["level"] != "residual-only" for line in lines),
            *(sum(line["status"] == ending for line in lines) for ending in endings),
        )
        found = [line["index"] for one in ends for line in one]
        rows.append(
            _row(
                (
                    loss,
                    method,
                    str(len(lines)),
                    *(_percent(count, len(lines)) for count in hits),
                    _span(found) if found else "–",
                    _span([distinct(one) for one in ends]),
                    _norm(loss, lines),
                    *(f"{statistics.median(line[x] for line in lines):,.3g}" for x in spent),
                )
            )
        )
    return "\n".join(rows)


def main() -> None:
    """Run what is missing, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--data", nargs="+", default=DATA)
    parser.add_argument("--activations", nargs="+", default=list(ACTIVATIONS))
    parser.add_argument("--losses", nargs="+", default=list(LOSSES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    if asked.table:
        print(success_table(asked.folder), method_table(asked.folder), sep="\n\n")
        return
    asked.folder.mkdir(parents=True, exist_ok=True)
    problems = itertools.product(asked.data, asked.activations, asked.losses)
    risks = {", ".join(problem): Problem(*problem).risk() for problem in problems}
    for number in range(asked.starts):
        for (name, risk), method in itertools.product(risks.items(), asked.methods):
            path = asked.folder / f"{name}, {method}.jsonl".replace(" ", "_")
            if path.exists() and number < len(path.read_text("utf-8").splitlines()):
                continue
            line = {"problem": name, "method": method, **search(risk, method, number)}
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
            print(name, method, number, line["status"], f"{line['seconds']:.1f} s", flush=True)


if __name__ == "__main__":
    main()
