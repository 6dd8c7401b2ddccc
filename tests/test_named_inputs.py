"""Dicts of named inputs: padding to one length, labels, and what no model takes."""

from __future__ import annotations

import warnings
from collections import UserDict
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.data import DataLoader

import hessscope as hs
from hessscope.errors import AssumptionWarning, DataError, NonDeterministicError, ObjectiveError

transformers = pytest.importorskip("transformers")

LENGTHS = (3, 7, 5, 2, 7, 4)
Batch = dict[str, Any]


def examples() -> list[Batch]:
    """Six sentences as a tokenizer gives them, without padding."""
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "input_ids": torch.randint(1, 11, (length,), generator=generator).tolist(),
            "labels": i % 3,
        }
        for i, length in enumerate(LENGTHS)
    ]


def padded(some: list[Batch], extra: int = 0, pad: int = 0) -> Batch:
    """A batch of them, padded behind their ends to its own longest, and by so many more."""
    length = max(len(one["input_ids"]) for one in some) + extra
    rows = [one["input_ids"] + [pad] * (length - len(one["input_ids"])) for one in some]
    mask = [[int(i < len(one["input_ids"])) for i in range(length)] for one in some]
    return {
        "input_ids": torch.tensor(rows),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor([one["labels"] for one in some]),
    }


def bert() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=11,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=5,
        max_position_embeddings=9,
        num_labels=3,
        attn_implementation="eager",
    )
    return transformers.BertForSequenceClassification(config).eval().double()


def dense(model: nn.Module, some: list[Batch]) -> torch.Tensor:
    """Hessian of the mean over sentences, each given alone and without padding, by torch.func."""
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def value(theta: torch.Tensor) -> torch.Tensor:
        parts = theta.split([shape.numel() for shape in shapes.values()])
        state = {k: p.view(s) for (k, s), p in zip(shapes.items(), parts, strict=True)}
        losses = [
            nn.functional.cross_entropy(
                functional_call(model, state, (torch.tensor([one["input_ids"]]),)).logits,
                torch.tensor([one["labels"]]),
            )
            for one in some
        ]
        return torch.stack(losses).mean()

    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    # Not by torch.func: its layer normalisation has no symmetric Hessian (torch 2.13).
    return torch.autograd.functional.hessian(value, theta)


def test_batches_of_different_padding_have_the_same_hessian() -> None:
    model, some = bert(), examples()
    expected = dense(model, some)
    alone = [padded([one]) for one in some]
    for one in alone[::2]:
        del one["attention_mask"]
    sources: dict[str, Any] = {
        "one batch": padded(some),
        "batches": [padded(some[:2]), padded(some[2:4], extra=1), padded(some[4:])],
        "batches of one, some without a mask": alone,
        "other tokens behind the ends": [padded(some[:3], pad=9), padded(some[3:], pad=9)],
        "examples": some,
        "lists": {key: [one[key] for one in some] for key in some[0]},
        "a loader": DataLoader(some, batch_size=2, collate_fn=padded),  # type: ignore[arg-type]
        "more than is needed": padded(some, extra=2),
        "another Mapping": UserDict(padded(some)),
    }
    for name, source in sources.items():
        found = hs.HessianOperator(hs.EmpiricalRisk(model, source, device="cpu")).to_dense()
        slack = 1e-12 * float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=0, atol=slack, msg=name)


def test_the_notes_say_what_was_done() -> None:
    some = examples()
    batch = padded(some[:2]) | {"text": ["a", "b"], "idx": torch.arange(2), "token_type_ids": None}
    data = hs.load_data([batch, padded(some[2:4], extra=2)])
    assert data.notes == (
        "inputs are input_ids, attention_mask",
        "left out, since no model takes it: text, idx, token_type_ids",
    )
    data = hs.load_data([padded(some[:1]), padded(some[1:2], pad=5), padded(some[2:4], pad=5)])
    assert data.notes[1] == ("3 to 7 tokens, padded to 7: input_ids with 5, attention_mask with 0")
    assert data.preprocessing == ("ids and masks as they are",)


def test_tokens_without_labels_are_their_own_targets() -> None:
    """The mean is over the tokens that another one follows, whatever the padding."""
    some = [{"input_ids": one["input_ids"]} for one in examples()]
    data = hs.load_data(some)
    mask = data.inputs["attention_mask"]
    assert torch.equal(data.targets, data.inputs["input_ids"].where(mask == 1, -100))
    assert "the targets are the input_ids themselves" in data.notes[-1]
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=11, n_embd=8, n_layer=1, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config).eval().double()
    risk = hs.EmpiricalRisk(model, data, "next_token", device="cpu")
    total, count = 0.0, 0
    for one in some:
        ids = torch.tensor(one["input_ids"])
        logits = model(ids[None]).logits[0].detach()
        total += float(nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="sum"))
        count += len(ids) - 1
    assert risk.value() == pytest.approx(total / count, rel=1e-12)
    with pytest.raises(ObjectiveError, match=r"tokens of the inputs themselves.*loss=next_token"):
        hs.EmpiricalRisk(model, data, device="cpu")
    ids = data.inputs["input_ids"]
    moved = (ids[:, :-1], ids[:, 1:])
    with pytest.raises(ObjectiveError, match=r"moved by one already.*cross_entropy@last"):
        hs.EmpiricalRisk(model, moved, "next_token", device="cpu")
    assert hs.EmpiricalRisk(model, moved, "cross_entropy@last", device="cpu").value() > 0


def test_labels_of_tokens_are_padded_with_what_is_left_out() -> None:
    some = [one | {"labels": one["input_ids"][::-1]} for one in examples()]
    data = hs.load_data(some)
    for row, one in zip(data.targets.tolist(), some, strict=True):
        assert row == one["labels"] + [-100] * (7 - len(row[: len(one["labels"])]))


def test_masks_and_ids_are_never_images() -> None:
    """Choices (N, choices, T) of small numbers have the shape of images."""
    ids = torch.arange(24).reshape(2, 3, 4)
    pixels = torch.arange(32, dtype=torch.uint8).reshape(2, 1, 4, 4)
    data = hs.load_data({"input_ids": ids, "pixel_values": pixels, "labels": torch.tensor([0, 1])})
    assert torch.equal(data.inputs["input_ids"], ids)
    assert torch.equal(data.inputs["pixel_values"], pixels / 255)


class Masked:
    """Tokens, some of which are hidden at random each time they are asked for."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> Batch:
        if i >= len(self):
            raise IndexError(i)
        ids = torch.arange(40)
        return {"input_ids": ids.where(torch.rand(40) < 0.8, 3), "labels": i % 2}


def left(some: list[Batch]) -> Batch:
    whole = padded(some)
    return {key: value.flip(-1) if value.ndim == 2 else value for key, value in whole.items()}


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ([left(examples()[:3]), padded(examples()[3:4])], DataError, "in batch 1.*front moves"),
        (Masked(), NonDeterministicError, "augmentation or masking"),
        ([padded(examples()), {"input_ids": torch.ones(2, 3).long()}], DataError, "the same ent"),
        ({"input_ids": ["a b", "c"], "labels": [0, 1]}, DataError, "input_ids has entries that"),
        (padded(examples()) | {"label": [0] * 6}, DataError, "labels or label"),
        (padded(examples()) | {"labels": ["x"] * 6}, DataError, "labels has entries that"),
        ({"pixel_values": torch.ones(2, 3, 4, 4)}, DataError, "no targets"),
        (
            [{"pixel_values": torch.ones(2, 3, n, n), "labels": torch.ones(2)} for n in (4, 5)],
            DataError,
            "pixel_values has the shapes",
        ),
        (
            DataLoader(examples()[:1], batch_size=1),  # type: ignore[arg-type]
            DataError,
            "list of tensors.*collate_fn",
        ),
    ],
)
def test_what_cannot_be_told_is_refused(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        hs.load_data(source)


def test_inputs_that_the_model_does_not_take_are_named() -> None:
    batch = padded(examples()) | {"special": torch.zeros(6)}
    with pytest.raises(ObjectiveError, match="but not special: leave these out"):
        hs.EmpiricalRisk(bert(), batch, device="cpu")


def test_wrappers_that_give_all_on_get_names() -> None:
    class Wrapper(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, *args: Any, **named: Any) -> Any:
            return self.model(*args, **named)

    model, batch = bert(), padded(examples())
    found = hs.EmpiricalRisk(Wrapper(model), batch, device="cpu").value()
    assert found == hs.EmpiricalRisk(model, batch, device="cpu").value()


def test_padding_that_counts_is_said() -> None:
    """GPT-2 looks for the end of a text by its own token, and takes another one for words."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=11, n_embd=4, n_layer=1, n_head=1, n_positions=8, num_labels=3, pad_token_id=0
    )
    model = transformers.GPT2ForSequenceClassification(config).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error", AssumptionWarning)
        right = hs.EmpiricalRisk(model, padded(examples()), device="cpu").value()
        for dtype in ("float32", "float64"):
            hs.EmpiricalRisk(bert(), padded(examples()), dtype=dtype, device="cpu")
    with pytest.warns(AssumptionWarning, match="by pad_token_id"):
        other = hs.EmpiricalRisk(model, padded(examples(), pad=10), device="cpu").value()
    assert abs(other - right) > 1e-6
