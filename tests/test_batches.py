"""Batches as data: DataLoaders, lists, and dicts of named inputs as Hugging Face has them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
)

import hessscope as hs
from hessscope.errors import DataError, NonDeterministicError

X = torch.arange(70.0).reshape(35, 2).sin()
Y = torch.arange(35) % 3


def batches(size: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(X.split(size), Y.split(size), strict=True))


@pytest.mark.parametrize(
    "source",
    [
        DataLoader(TensorDataset(X, Y), batch_size=8),
        DataLoader(TensorDataset(X, Y), batch_size=7, drop_last=True),  # nothing is left out
        batches(),
        [list(pair) for pair in batches()],
        [{"inputs": x, "targets": y} for x, y in batches(20)],
        [(x.numpy(), y.numpy()) for x, y in batches()],
    ],
)
def test_batches_are_the_examples_in_their_order(source: Any) -> None:
    data = hs.load_data(source)
    assert torch.equal(data.inputs, X)
    assert torch.equal(data.targets, Y)
    assert data.fingerprint == hs.load_data((X, Y)).fingerprint


class Noisy(Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.randn(3), 0


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter([(X[0], Y[0])])


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (DataLoader(TensorDataset(X, Y), shuffle=True), DataError, "RandomSampler.*shuffle=False"),
        (
            DataLoader(TensorDataset(X, Y), sampler=WeightedRandomSampler([0.5] * 35, 35)),
            DataError,
            "WeightedRandomSampler",
        ),
        (
            DataLoader(TensorDataset(X, Y), batch_size=8, drop_last=True),
            DataError,
            "leaves out 3 of 35 examples",
        ),
        (DataLoader(Noisy(), batch_size=8), NonDeterministicError, "transforms of the evaluation"),
        (DataLoader(TensorDataset(X, Y), batch_size=None), DataError, "with a batch_size"),
        (DataLoader(Stream()), DataError, "without a length"),
        ([(X, X), (Y, Y)], DataError, "two batches or .inputs, targets."),
        ([(X, Y), (X, Y), (X[:, :1], Y)], DataError, "do not fit together.*one shape"),
        (DataLoader(TensorDataset(X)), DataError, "a batch is a list of 1"),
    ],
)
def test_what_is_random_or_left_out_is_refused(
    source: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        hs.load_data(source)


class Classifier(nn.Module):
    """Mean of the embeddings that are not masked; answers as Hugging Face's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, 3), nn.Linear(3, 2)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: Any = None
    ) -> SimpleNamespace:
        weights = attention_mask.to(self.head.weight.dtype)[..., None]
        mean = (self.embedding(input_ids) * weights).sum(1) / weights.sum(1)
        return SimpleNamespace(logits=self.head(mean), loss=None)


def tokens() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 11, (12, 5), generator=generator)
    mask = (torch.arange(5) < torch.randint(1, 6, (12, 1), generator=generator)).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(12) % 2}


def test_dict_batches_of_named_inputs() -> None:
    torch.manual_seed(0)
    model, whole = Classifier(), tokens()
    parts = [{name: value[i : i + 5] for name, value in whole.items()} for i in (0, 5, 10)]
    exact = model.double()(whole["input_ids"], whole["attention_mask"]).logits
    expected = nn.functional.cross_entropy(exact, whole["labels"]).item()
    items: Any = [{name: value[i] for name, value in whole.items()} for i in range(12)]
    for source in (whole, parts, DataLoader(items, batch_size=5)):
        risk = hs.EmpiricalRisk(model, source, device="cpu")
        assert risk.value() == pytest.approx(expected, rel=1e-12)
    assert hs.load_data(whole).notes == ("inputs are input_ids, attention_mask",)


def test_augmentation_of_the_last_examples_alone_is_refused() -> None:
    class Items:
        def __len__(self) -> int:
            return 500

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            if i >= len(self):
                raise IndexError(i)
            return (torch.rand(3) if i > 480 else torch.full((3,), float(i))), i % 2

    with pytest.raises(hs.HessscopeError, match="when it was read twice"):
        hs.load_data(Items())
