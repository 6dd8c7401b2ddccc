"""Data that is read anew in each pass: the same numbers as in memory, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hessscope as hs
from hessscope.errors import (
    DataError,
    NonDeterministicError,
    NonFiniteError,
    OptionError,
    SolverError,
)
from hessscope.loaders.data import batches as loader_batches
from hessscope.objective.rows import Rows
from hessscope.operators.plan import Plan

N = 700
STREAM = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (N, 1, 6, 5), generator=STREAM, dtype=torch.uint8)
FLOATS = torch.randn(N, 4, generator=STREAM)
LABELS = torch.randint(0, 3, (N,), generator=STREAM)
TOKENS = torch.randint(0, 9, (N, 40), generator=STREAM)


class Items:
    """Counts how often each example is asked for."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self.tensors, self.reads = tensors, 0

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        self.reads += 1
        return tuple(tensor[i] for tensor in self.tensors)


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 3), nn.Linear(3, 9)

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None) -> torch.Tensor:
        x = self.embed(input_ids)
        return self.head(torch.tanh(x if attention_mask is None else x * attention_mask[..., None]))


class Pooled(Language):
    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None) -> torch.Tensor:
        return super().forward(input_ids, attention_mask).mean(1)


def picture() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 3), nn.Tanh(), nn.Linear(3, 3))


def named() -> Any:
    mask = (torch.arange(40) < torch.randint(2, 41, (N, 1), generator=STREAM)).long()
    parts = {"input_ids": TOKENS, "attention_mask": mask}
    return [{key: value[i] for key, value in parts.items()} for i in range(N)]


class Indexed:
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]


def memory_map(folder: Path, values: torch.Tensor, name: str) -> Any:
    np.save(folder / name, values.numpy())
    return np.load(folder / name, mmap_mode="r")


def bin_file(folder: Path) -> Path:
    TOKENS.numpy().astype(np.uint16).tofile(folder / "t.bin")
    return folder / "t.bin"


SOURCES: dict[str, Any] = {
    "items": (lambda _: Items(FLOATS, LABELS), lambda: nn.Linear(4, 3), {}),
    "images": (lambda _: Items(IMAGES, LABELS), picture, {"normalize": "0.3/0.2", "resize": "6x5"}),
    "centred": (lambda _: Items(IMAGES, LABELS), picture, {"normalize": "center"}),
    "standardized": (
        lambda _: Items(FLOATS, LABELS), lambda: nn.Linear(4, 3), {"normalize": "standardize"}
    ),
    "a subset": (lambda _: Items(FLOATS, LABELS), lambda: nn.Linear(4, 3), {"subset": 300}),
    "a loader": (
        lambda _: DataLoader(TensorDataset(FLOATS, LABELS), batch_size=64),
        lambda: nn.Linear(4, 3),
        {},
    ),
    "memory maps": (
        lambda folder: (memory_map(folder, FLOATS, "x.npy"), memory_map(folder, LABELS, "y.npy")),
        lambda: nn.Linear(4, 3),
        {},
    ),
    "large targets": (
        lambda _: Items(FLOATS, torch.tanh(FLOATS.repeat(1, 10))),
        lambda: nn.Linear(4, 40),
        {"loss": "mse"},
    ),
    "tokens": (bin_file, Language, {"context": 40, "loss": "next_token"}),
    "some tokens": (bin_file, Language, {"context": 40, "loss": "next_token", "subset": 290}),
    "named inputs": (lambda _: Indexed(named()), Language, {"loss": "next_token"}),
    "named inputs by a map": (
        lambda folder: {"input_ids": memory_map(folder, TOKENS, "t.npy")},
        Language,
        {"loss": "next_token"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_streamed_numbers_are_those_in_memory(tmp_path: Path, name: str) -> None:
    source, model, options = SOURCES[name]
    loss = options.get("loss", "cross_entropy")
    asked = {key: value for key, value in options.items() if key != "loss"}
    source = source(tmp_path)
    torch.manual_seed(1)
    network = model()
    stored, streamed = (hs.load_data(source, stream=s, **asked) for s in (False, True))
    assert "streamed" not in " ".join(stored.notes)
    assert "read anew" in streamed.notes[-1]
    assert streamed.fingerprint == stored.fingerprint
    assert len(streamed) == len(stored)
    one, other = (
        hs.EmpiricalRisk(network, data, loss, device="cpu", batch_size=96)
        for data in (stored, streamed)
    )
    assert any(isinstance(leaf, Rows) for leaf in _leaves(other.inputs))
    assert other.units == one.units
    assert other.evaluate() == one.evaluate()
    vectors = torch.randn(
        len(one.parameters), 2, generator=torch.Generator().manual_seed(2)
    ).double()
    assert torch.equal(one.gradient(), other.gradient())
    plan = Plan("graph", vectors=2, batch_size=96, held=False)
    products = [hs.HessianOperator(risk, plan=plan).apply(vectors) for risk in (one, other)]
    assert torch.equal(*products)


def _leaves(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else [value]


def test_what_does_not_fit_is_streamed_without_being_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs, source = FLOATS.numel() * 4, Items(FLOATS, LABELS)
    monkeypatch.setattr(loader_batches, "free_memory", lambda: 4 * (inputs + N * 8))
    assert isinstance(hs.load_data(source).inputs, torch.Tensor)
    monkeypatch.setattr(loader_batches, "free_memory", lambda: 4 * inputs - 1)
    data = hs.load_data(source)
    assert isinstance(data.inputs, Rows)
    assert isinstance(data.targets, torch.Tensor)  # class numbers are kept
    assert isinstance(hs.load_data(source, subset=100).inputs, torch.Tensor)


def test_each_pass_reads_each_example_once() -> None:
    source = Items(FLOATS, LABELS)
    data = hs.load_data(source, stream=True)
    # One pass for the targets, one for the fingerprint; single examples are looked at twice.
    assert 2 * N <= source.reads <= 2 * N + 10
    risk = hs.EmpiricalRisk(nn.Linear(4, 3), data, device="cpu", batch_size=100)
    source.reads = 0
    risk.gradient()
    assert source.reads == N


class Random(Items):
    def __getitem__(self, i: int) -> Any:
        return torch.rand(4), 0


class Growing(Items):
    def __getitem__(self, i: int) -> Any:
        return torch.ones(4 if i < 300 else 5), 0


class Broken(Items):
    def __getitem__(self, i: int) -> Any:
        return torch.full((4,), float("nan") if i == 411 else 1.0), i % 2


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (Random(), NonDeterministicError, "gave different values when it was read twice"),
        (Growing(), DataError, r"shape \(4,\).*another one.*shape \(5,\)|one tensor"),
        (Broken(), NonFiniteError, "examples 256 to 511|examples 0 to 699"),
        ((FLOATS, LABELS), OptionError, "in memory: leave it out"),
        ("digits", OptionError, "in memory: leave it out"),
        (DataLoader(TensorDataset(FLOATS, LABELS), shuffle=True), DataError, "RandomSampler"),
        ({"train": Items(FLOATS, LABELS), "test": Items(FLOATS, LABELS)}, DataError, "streamed as"),
    ],
)
def test_what_cannot_be_streamed_is_refused(
    source: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        hs.load_data(source, split="all", stream=True)


def test_the_spectrum_of_streamed_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Language()
    reports = [
        hs.spectrum(
            model, bin_file(tmp_path), loss="next_token", context=40, subset=60, stream=stream
        )
        for stream in (False, True)
    ]
    first, second = (report.eigenvalues for report in reports)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-13 * abs(first).max())
    assert reports[0].as_dict()["data_fingerprint"] == reports[1].as_dict()["data_fingerprint"]


@pytest.mark.parametrize("several", [True, False])
def test_pyhessian_says_what_it_does_not_take(several: bool) -> None:
    whole = {"input_ids": TOKENS[:20], "labels": LABELS[:20]}
    data: Any = whole if several else Items(FLOATS, LABELS)
    model = Pooled() if several else nn.Linear(4, 3)
    with pytest.raises(SolverError, match="one tensor each, in memory"):
        hs.spectrum(model, data, backend="pyhessian", stream=not several)
