"""Records of critical points and of spectra, made up but consistent, for tests of the reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hessscope.records import Record, write_record

SIZE = 60
ZEROS = 10


def count(lower: int, estimate: int, upper: int, confidence: float = 1.0) -> dict[str, Any]:
    return {"lower": lower, "estimate": estimate, "upper": upper, "confidence": confidence}


def critical_point(
    index: int,
    loss: float,
    *,
    width: int = 0,
    status: str = "converged",
    level: str = "kantorovich",
    origin: str | None = "trajectory",
    seed: int = 0,
    **more: Any,
) -> Record:
    """A point with so many negative eigenvalues, ten zeros and the rest positive."""
    rng = np.random.default_rng(seed)
    ups = SIZE - ZEROS - index
    eigenvalues = np.sort(
        np.concatenate(
            [
                -(10 ** rng.uniform(-3, -1, index)),
                1e-17 * rng.standard_normal(ZEROS),
                10 ** rng.uniform(-3, 0.3, ups),
            ]
        )
    )
    steps = 6
    return Record(
        "critical point",
        {
            "parameters": rng.standard_normal(SIZE),
            "eigenvalues": eigenvalues,
            "trace/loss": np.linspace(2.0, loss, steps),
            "trace/gradient_norm": np.geomspace(1.0, 1e-14, steps),
            "trace/step_length": np.r_[np.nan, np.geomspace(1.0, 1e-9, steps - 1)],
            "trace/damping": np.zeros(steps),
            "trace/index": np.full(steps, np.nan),
        },
        {
            "status": status,
            "method": "newton",
            "iterations": steps - 1,
            "loss": loss,
            "accuracy": max(0.0, 1.0 - loss / 3),
            "gradient_norm": 1e-14,
            "gradient_norm_start": 1.0,
            "certificate": {"level": level, "radius": 1e-10},
            "index": count(index - min(width, index), index, index + width),
            "degeneracy": count(ZEROS, ZEROS, ZEROS + width),
            "positive": count(ups - width, ups, ups),
            "alpha": index / SIZE,
            "tolerance": 1e-12,
            "noise_floor": 5e-13,
            "classification": "degenerate saddle" if index else "undecided to second order",
            "lambda_min": float(eigenvalues[0]),
            "lambda_max": float(eigenvalues[-1]),
            "parameters": SIZE,
            "dtype": "float64",
            "data": "digits",
            "origin": origin,
            **more,
        },
    )


def trained(optimizer: str, negative: int, zero: int, accuracy: float, **more: Any) -> Record:
    """The spectrum of a 784-25-10 network after training, without its eigenvalues."""
    n = 19_885
    positive = n - negative - zero
    return Record(
        "spectrum",
        {},
        {
            "loss": 0.1,
            "accuracy": accuracy,
            "gradient_norm": 0.16,
            "tolerance": 7.4e-15,
            "noise_floor": 3.7e-15,
            "index": count(negative, negative, negative + 3),
            "degeneracy": count(zero - 3, zero, zero),
            "positive": count(positive, positive, positive),
            "alpha": negative / n,
            "parameters": n,
            "examples": 60_000,
            "data": "mnist",
            "split": "train",
            "dtype": "float64",
            "backend": "exact",
            "loss_function": "softmax_mse",
            "classification": "not a critical point (gradient norm 0.16)",
            "architecture": "mlp:784-25-10:relu",
            "training": {"optimizer": optimizer, "initialization": "xavier_normal"},
            **more,
        },
    )


def write_study(folder: Path, searches: int = 24) -> Path:
    """A survey: two origins, a few failures, a few without a certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for k in range(searches):
        index = int(rng.integers(0, 25))
        loss = 0.05 + index / 20 + 0.02 * float(rng.standard_normal())
        status = "converged" if k % 6 else "gradient_flat"
        level = "kantorovich" if k % 5 else "residual-only"
        if status != "converged":
            level = "residual-only"
        record = critical_point(
            index,
            abs(loss),
            width=k % 3,
            status=status,
            level=level,
            origin="trajectory" if k % 2 else "uniform",
            seed=k,
        )
        write_record(record, folder / f"job_{k:03d}.h5")
    return folder
