"""Language models and vision transformers: folders, memory, batches against dense Hessians."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, jacrev
from torch.nn import functional as F
from torch.utils.data import DataLoader

import hessscope as hs
from cli_runs import Run

transformers = pytest.importorskip("transformers")

TOKENS, LENGTH = 11, 7
TEXT = {"vocab_size": TOKENS, "attn_implementation": "eager"}
SIZES = {"hidden_size": 8, "intermediate_size": 10, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2}

# The class, its configuration, and how save_pretrained is called.
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "GPT-2": (
        "GPT2LMHeadModel",
        {**TEXT, "n_positions": 12, "n_embd": 6, "n_layer": 2, "n_head": 2, "bos_token_id": 0,
         "eos_token_id": 0},
        {},
    ),
    "Llama": (
        "LlamaForCausalLM",
        {**TEXT, **SIZES, "num_key_value_heads": 1, "max_position_embeddings": 12},
        {"max_shard_size": "2KB"},
    ),
    "BERT": (
        "BertForSequenceClassification",
        {**TEXT, **SIZES, "max_position_embeddings": 12, "num_labels": 3, "pad_token_id": 0},
        {"dtype": torch.bfloat16},
    ),
    "ViT": (
        "ViTForImageClassification",
        {**SIZES, "image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 3,
         "attn_implementation": "eager"},
        {},
    ),
}  # fmt: skip


def made(name: str) -> Any:
    """A model with random weights, in evaluation mode."""
    kind, config, how = MODELS[name]
    torch.manual_seed(1)
    network = getattr(transformers, kind)
    model = network(network.config_class(**config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.to(how.get("dtype", torch.float32))


def batch(name: str, padding: int = 0) -> dict[str, torch.Tensor]:
    """A batch as a tokenizer and a collator make it; images for the vision transformer."""
    stream = torch.Generator().manual_seed(2)
    if name == "ViT":
        images = torch.randn(6, 1, 8, 8, generator=stream)
        return {"pixel_values": images, "labels": torch.arange(6) % 3}
    ids = torch.randint(1, TOKENS, (6, LENGTH), generator=stream)
    mask = (torch.arange(LENGTH) < torch.tensor([7, 4, 7, 2, 5, 6])[:, None]).long()
    labels = ids.where(mask == 1, -100) if name != "BERT" else torch.arange(6) % 3
    wide = {
        "input_ids": F.pad(ids * mask, (0, padding)),
        "attention_mask": F.pad(mask, (0, padding)),
        "labels": labels if name == "BERT" else F.pad(labels, (0, padding), value=-100),
    }
    return wide


@pytest.fixture
def only_double(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], torch.Tensor]:
    """Dense Hessians by plain torch, with the casts to float32 in transformers made harmless."""

    def dense(name: str) -> torch.Tensor:
        model, given = made(name).double(), batch(name)
        labels = given.pop("labels")
        given = {k: v.double() if v.is_floating_point() else v for k, v in given.items()}
        named = dict(model.named_parameters())

        def loss(theta: torch.Tensor) -> torch.Tensor:
            parts = theta.split([p.numel() for p in named.values()])
            state = {n: x.view(p.shape) for (n, p), x in zip(named.items(), parts, strict=True)}
            logits = functional_call(model, state, (), given).logits
            if logits.ndim == 2:
                return F.cross_entropy(logits, labels)
            return F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:])

        theta = torch.cat([p.detach().reshape(-1) for p in named.values()])
        with monkeypatch.context() as patch:
            patch.setattr(torch, "float32", torch.float64)
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            return jacrev(grad(loss), chunk_size=64)(theta)

    return dense


def loss_of(name: str) -> str:
    return "cross_entropy" if name in ("BERT", "ViT") else "next_token"


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_and_a_file_of_data_by_one_command(
    name: str, run: Run, work: Path, only_double: Callable[[str], torch.Tensor]
) -> None:
    _, _, how = MODELS[name]
    made(name).save_pretrained(work / "model", **{k: v for k, v in how.items() if k != "dtype"})
    np.savez(work / "batch.npz", **{k: v.numpy() for k, v in batch(name).items()})
    outcome = run("spectrum", "model", "--data", "batch.npz", "--json", "--out", "r.h5")
    assert outcome.json["loss_function"] == loss_of(name)  # taken from the architecture
    expected = torch.linalg.eigvalsh(only_double(name)).numpy()
    found = hs.Spectrum.from_record(hs.load_record(work / "r.h5")).eigenvalues
    delta = outcome.json["noise_floor"]
    assert delta < 1e-10 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=delta)


@pytest.mark.parametrize("name", MODELS)
def test_in_memory_by_batches_and_by_a_loss_of_model_and_batch(
    name: str, only_double: Callable[[str], torch.Tensor]
) -> None:
    expected, model, whole = only_double(name), made(name), batch(name)
    rows = [{k: v[i] for k, v in whole.items()} for i in range(6)]

    def loss(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        labels = batch["labels"]
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits
        if logits.ndim == 3:
            logits, labels = logits[:, :-1].transpose(1, 2), labels[:, 1:]
        count = (labels != -100).sum()
        return F.cross_entropy(logits, labels, reduction="sum") / count.clamp(min=1), count

    forms: dict[str, tuple[Any, Any]] = {
        "dict": (whole, loss_of(name)),
        "DataLoader": (DataLoader(rows, batch_size=4), loss_of(name)),  # type: ignore[arg-type]
        "loss of model and batch": (whole, loss),
    }
    if name != "ViT":
        uneven = [batch(name), batch(name, padding=3)]
        halves = [
            {k: v[i] for k, v in b.items()}
            for b, i in zip(uneven, (slice(4), slice(4, 6)), strict=True)
        ]
        forms["batches of different padding"] = (halves, loss_of(name))
    for form, (data, by) in forms.items():
        found = hs.HessianOperator(model, data, loss=by).to_dense()
        scale = float(expected.abs().max())
        torch.testing.assert_close(
            found,
            expected,
            rtol=0,
            atol=1e-11 * scale,
            msg=lambda said, form=form: f"{form}: {said}",
        )


def test_a_bert_whose_tokens_are_labelled_counts_the_labels(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = {**MODELS["BERT"][1], "num_labels": 4}
    kind = transformers.BertForTokenClassification
    model = kind(kind.config_class(**config)).eval()
    given = batch("GPT-2")
    labels = given["labels"].where(given["labels"] < 0, given["labels"] % 4)
    model.save_pretrained(tmp_path / "tagger")
    report = hs.spectrum(tmp_path / "tagger", {**given, "labels": labels})
    assert report.opened.risk.loss_in_words() == "cross_entropy@last, mean over 31 labels"
    inputs = {k: v for k, v in given.items() if k != "labels"}
    logits = model(**inputs).logits
    expected = F.cross_entropy(logits.transpose(1, 2), labels)
    assert report.loss == pytest.approx(float(expected.detach()), rel=1e-5)
