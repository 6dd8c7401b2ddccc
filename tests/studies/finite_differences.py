"""Do counts of products from gradients alone hold the truth, in float32?

    PYTHONPATH=tests python -m studies.finite_differences ROWS.csv     # resumes where ROWS.csv ends

300 draws, each a partly trained network, a seed, a backend and four tolerances, against the dense
Hessian by plain torch in float64. Writes the table of the docs' page; with ``--draws`` it only
prints it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

import hessscope as hs
from hessscope.errors import HessscopeWarning
from studies.pages import study

TOLERANCES = ("2δ", "10δ", "1e-3‖H‖", "1e-2‖H‖")
DRAWS = 60
CLASSES = 3


class Attention(nn.Module):
    """A transformer of one layer over tokens, in plain operations."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, width)
        self.norm = nn.LayerNorm(width)
        self.mixed = nn.Linear(width, 3 * width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        q, k, v = self.mixed(self.norm(x)).chunk(3, dim=-1)
        shares = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
        return self.head(nn.functional.gelu(x + shares @ v).mean(1))


def perceptron(activation: type[nn.Module]) -> Callable[[int], nn.Module]:
    """Two hidden layers."""

    def make(width: int) -> nn.Module:
        layers = nn.Linear(5, width), activation(), nn.Linear(width, width), activation()
        return nn.Sequential(*layers, nn.Linear(width, CLASSES))

    return make


def convolutional(width: int) -> nn.Module:
    """Two channels or three, pooled by their means."""
    layers = nn.Conv2d(1, width // 2, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4 * (width // 2), CLASSES))


KINDS: dict[str, Callable[[int], nn.Module]] = {
    "perceptron, tanh": perceptron(nn.Tanh),
    "perceptron, GELU": perceptron(nn.GELU),
    "perceptron, ReLU": perceptron(nn.ReLU),
    "convolutional, ReLU": convolutional,
    "transformer, GELU": Attention,
}


def problem(kind: str, draw: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network, trained for 0 to 100 steps, and its data."""
    torch.manual_seed(1000 * list(KINDS).index(kind) + draw)
    model, examples = KINDS[kind](4 + draw % 3), (20, 50)[draw % 2]
    inputs = {
        "perceptron": torch.randn(examples, 5),
        "convolutional": torch.randn(examples, 1, 6, 6),
        "transformer": torch.randint(7, (examples, 4)),
    }[kind.split(",")[0]]
    targets = torch.randint(CLASSES, (examples,))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range((0, 10, 30, 100)[draw // 2 % 4]):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model, inputs, targets


def truth(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """All eigenvalues, by plain torch in float64.

    ``torch.func.hessian`` is wrong, and not symmetric, for ``nn.LayerNorm`` on torch 2.13.
    """
    parameters = {name: p.detach().double() for name, p in model.named_parameters()}
    sizes = [p.numel() for p in parameters.values()]
    x = inputs.double() if inputs.is_floating_point() else inputs

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = zip(parameters.items(), theta.split(sizes), strict=True)
        state = {name: part.view(p.shape) for (name, p), part in parts}
        return nn.functional.cross_entropy(torch.func.functional_call(model, state, (x,)), targets)

    theta = torch.cat([p.flatten() for p in parameters.values()])
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, theta)).numpy()


def compare(kind: str, draw: int) -> list[dict[str, object]]:
    """One network: a row for each tolerance, with what its intervals hold."""
    model, inputs, targets = problem(kind, draw)
    values = truth(model, inputs, targets)
    norm = float(np.abs(values).max())
    hessian = hs.FiniteDifferenceHessian(
        model, (inputs, targets), loss="cross_entropy", dtype="float32", device="cpu"
    )
    lanczos = draw % 3 == 2
    backend = hs.LanczosBackend(steps=30, probes=2, seed=draw) if lanczos else hs.ExactBackend()
    result = backend.solve(hessian)
    delta = result.noise_floor.total
    ends = max(abs(result.lambda_min - values[0]), abs(result.lambda_max - values[-1]))
    known = result.eigenvalues
    rows: list[dict[str, object]] = []
    for name, tau in zip(
        TOLERANCES, (2 * delta, 10 * delta, 1e-3 * norm, 1e-2 * norm), strict=True
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HessscopeWarning)
            inertia = result.inertia(tau)
        counts = (
            (inertia.negative, np.sum(values < -tau)),
            (inertia.zero, np.sum(np.abs(values) <= tau)),
            (inertia.positive, np.sum(values > tau)),
        )
        row = {
            "kind": kind,
            "draw": draw,
            "backend": backend.name,
            "tolerance": name,
            "held": sum(found.lower <= true <= found.upper for found, true in counts),
            "width": max(found.upper - found.lower for found, _ in counts) / len(values),
            "delta": delta / norm,
            "error": None if known is None else float(np.abs(known - values).max()) / delta,
            "ends": ends / norm,
        }
        rows.append(row)
    return rows


def run(draws: int, kept: Path | None = None) -> pd.DataFrame:
    """All networks; rows that ``kept`` has are not computed again."""
    warnings.simplefilter("ignore", HessscopeWarning)
    rows = pd.read_csv(kept).to_dict("records") if kept and kept.exists() else []
    done = {(row["kind"], row["draw"]) for row in rows}
    for draw in range(draws):
        for kind in KINDS:
            if (kind, draw) in done:
                continue
            rows += compare(kind, draw)
            if kept:
                pd.DataFrame(rows).to_csv(kept, index=False)
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame) -> str:
    """Shares by kind of network, as Markdown."""
    lines = [
        f"| networks | draws | {' | '.join(TOLERANCES)} | median δ/‖H‖ | largest error/δ |",
        "|" + "---|" * (4 + len(TOLERANCES)),
    ]
    for kind, part in [*rows.groupby("kind", sort=False), ("**all**", rows)]:
        cells = [part[part.tolerance == name] for name in TOLERANCES]
        shares = " | ".join(
            f"{c.held.sum() / (3 * len(c)):.1%}, {c.width.median():.1%}" for c in cells
        )
        lines.append(
            f"| {kind} | {len(cells[0])} | {shares} | {part.delta.median():.1g} | "
            f"{part.error.max():.2g} |"
        )
    whole = (rows.held == 3).groupby(rows.backend).mean()
    lines += [
        "",
        f"Of {len(rows):,} sets of counts (draws times tolerances) {(rows.held == 3).mean():.1%} "
        f"hold the truth in all three intervals: {whole['exact']:.1%} of the exact backend, "
        f"{whole['lanczos']:.1%} of Lanczos.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    study(str(__doc__), run, table, DRAWS, "backends-and-numbers.md", "differences")
