"""The tables of Sankar & Balasubramanian (2017) on MNIST, one command each.

    PYTHONPATH=tests python -m studies.sankar2017 table1 --folder build/sankar2017

Trains what the table compares, by the preset ``sankar2017``, computes the spectrum of each network,
and prints the table with the paper's numbers beside ours. Networks that several tables need are
trained once; what is in the folder is not computed again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hessscope as hs

RULE = "sankar2017"


@dataclass(frozen=True)
class Network:
    """A network that the paper trains.

    Attributes:
        architecture: as ``hessscope train --arch`` takes it.
        training: what differs from the preset.
        exact: its Hessian has all its eigenvalues computed; else it is sampled.
    """

    architecture: str = "mlp:784-25-10:relu"
    training: dict[str, Any] = field(default_factory=dict)
    exact: bool = True


NETWORKS = {
    "momentum": Network(),
    "adam": Network(training={"optimizer": "adam", "learning_rate": 1e-3}),
    "adagrad": Network(training={"optimizer": "adagrad", "learning_rate": 1e-2}),
    "noisy-sgd": Network(training={"optimizer": "noisy_sgd", "learning_rate": 0.1}),
    "he": Network(training={"initialization": "he_normal"}),
    "normal": Network(training={"initialization": "normal"}),
    "orthogonal": Network(training={"initialization": "orthogonal"}),
    "two-hidden": Network("mlp:784-25-25-10:relu"),
    "three-hidden": Network("mlp:784-25-25-25-10:relu"),
    **{
        f"width-{width}": Network(f"mlp:784-{width}-10:relu", exact=False)
        for width in (500, 250, 100, 50)
    },
    "autoencoder": Network("mlp:784-10-784:relu", {"optimizer": "krylov_sfn"}),
}

TABLES = {
    "table1": ("momentum", "adam", "adagrad"),
    "table3": ("momentum", "adam", "adagrad"),
    "table5": ("noisy-sgd",),
    "table7": ("he", "normal", "momentum", "orthogonal"),  # momentum begins at Xavier's
    "table8": ("two-hidden", "three-hidden"),
    "table9": ("width-500", "width-250", "width-100", "width-50"),
    "autoencoder": ("autoencoder",),
}


def trained(name: str, folder: Path, epochs: int, trials: int, examples: int) -> list[Path]:
    """Last checkpoints of the trials of one network; a run that was broken off goes on."""
    network = NETWORKS[name]
    where = folder / name
    problem: dict[str, Any] = {"preset": RULE}
    if name == "autoencoder":
        # Saddle-free Newton takes all examples at each step, in float64.
        problem = {"subset": examples, "split": "train", "loss": "mse", "targets": "inputs"}
    report = hs.train_checkpoints(
        "mnist",
        model=network.architecture,
        out=where,
        trials=trials,
        save_every=epochs,
        resume=where.exists(),
        **{"epochs": epochs, **problem, **network.training},
        on_note=print,
    )
    return [trial.checkpoint for trial in report.trials if trial.checkpoint is not None]


def spectrum(name: str, checkpoint: Path, examples: int) -> Path:
    """The record of a checkpoint's spectrum on so many examples, which its name says."""
    record = checkpoint.with_suffix(f".{examples}.spectrum.h5")
    if not record.exists():
        how: dict[str, Any] = (
            {"backend": "exact", "zero_rule": RULE}
            if NETWORKS[name].exact
            else {"backend": "lanczos", "steps": 20, "probes": 1}
        )
        hs.spectrum(checkpoint, subset=examples, out=record, tell=print, **how)
    return record


def main() -> None:
    """Make one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=1, help="the paper has 8")
    parser.add_argument("--epochs", type=int, default=20, help="the paper's code has 100")
    parser.add_argument("--examples", type=int, default=10_000, help="of the Hessian")
    parser.add_argument("--out", type=Path, help="table as .txt, .csv, .tex or .md")
    asked = parser.parse_args()
    records = [
        spectrum(name, checkpoint, asked.examples)
        for name in TABLES[asked.table]
        for checkpoint in trained(name, asked.folder, asked.epochs, asked.trials, asked.examples)
    ]
    print(hs.report(records, layout=asked.table, out=asked.out, overwrite=True))


if __name__ == "__main__":
    main()
