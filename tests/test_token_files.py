"""Files of tokens and text, and tables of datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hessscope as hs
from hessscope.errors import DataError, ObjectiveError, OptionError

TOKENS = np.random.default_rng(0).integers(0, 300, 1000)


class Bigram(nn.Module):
    """Logits of the next token by the one before."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table(tokens)


@pytest.mark.parametrize("kind", ["uint16", "uint32", "npy"])
def test_a_file_of_tokens_is_cut_into_examples(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("tokens.npy" if kind == "npy" else "tokens.bin")
    told: dict[str, Any] = {}
    if kind == "npy":
        np.save(path, TOKENS.astype(np.uint16))
    else:
        TOKENS.astype(kind).tofile(path)
        told = {"token_type": kind}
    data = hs.load_data(path, context=24, **told)
    expected = torch.from_numpy(TOKENS[: 41 * 24].reshape(41, 24))
    assert data.inputs.dtype == data.targets.dtype == torch.int64
    assert torch.equal(data.inputs, expected)
    assert torch.equal(data.targets, expected)
    assert data.notes[0] == "1,000 tokens as 41 examples of 24, 16 at the end left out"
    assert "`loss=next_token`" in data.notes[1]
    assert len(hs.load_data(path, **told)) == 3  # of 256
    assert len(hs.load_data(path, context=24, subset=5, **told)) == 5


def test_the_loss_of_a_file_is_that_of_its_windows(tmp_path: Path) -> None:
    """A bigram model's Hessian in closed form: softmax curvature by counts of pairs."""
    tokens = TOKENS[:96] % 4
    np.save(tmp_path / "t.npy", tokens)
    torch.manual_seed(0)
    model = Bigram(4).double()
    risk = hs.EmpiricalRisk(
        model, hs.load_data(tmp_path / "t.npy", context=8), "next_token", device="cpu"
    )
    before = tokens.reshape(12, 8)[:, :-1].flatten()
    expected = torch.zeros(16, 16, dtype=torch.float64)
    for row in range(4):
        p = torch.softmax(model.table.weight.detach()[row], 0)
        block = (before == row).mean() * (torch.diag(p) - torch.outer(p, p))
        expected[4 * row : 4 * row + 4, 4 * row : 4 * row + 4] = block
    found = hs.HessianOperator(risk).to_dense()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    with pytest.raises(ObjectiveError, match="loss=next_token"):
        hs.EmpiricalRisk(model, risk.data, device="cpu")
    with pytest.raises(ObjectiveError, match=r"numbers up to 3, or are longer.*embedding"):
        hs.EmpiricalRisk(Bigram(3), risk.data, "next_token", device="cpu")
    last = torch.zeros(50, 8, dtype=torch.int64)
    last[31, 2] = 4  # in an example that no other check looks at
    with pytest.raises(ObjectiveError, match="numbers up to 4"):
        hs.EmpiricalRisk(model, (last, last[:, 0] * 0), lambda o, t: o.mean(), device="cpu")


def test_text_by_characters(tmp_path: Path) -> None:
    text = "näh, ä €!\n" * 30
    (tmp_path / "a.txt").write_text(text, "utf-8")
    data = hs.load_data(tmp_path / "a.txt", tokenizer="characters", context=10)
    known = sorted(set(text))
    assert data.inputs.flatten().tolist() == [known.index(c) for c in text]
    assert data.notes[0] == f"300 tokens of {len(known)} characters as 30 examples of 10"


def word_tokenizer() -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "the": 4, "cat": 5, "sat": 6}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.enable_truncation(3)  # what a file states of lengths is not for whole texts
    made.enable_padding(length=12)
    return made


@pytest.mark.parametrize("form", ["file", "object", "folder"])
def test_text_by_a_tokenizer(tmp_path: Path, form: str) -> None:
    made = word_tokenizer()
    made.save(str(tmp_path / "tokenizer.json"))
    given: Any = {"file": tmp_path / "tokenizer.json", "object": made}.get(form)
    if form == "folder":
        transformers = pytest.importorskip("transformers")
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]")
        fast.save_pretrained(tmp_path / "saved")
        given = str(tmp_path / "saved")
    (tmp_path / "a.txt").write_text("the cat sat on the cat " * 4)
    data = hs.load_data(tmp_path / "a.txt", tokenizer=given, context=6)
    assert data.inputs.tolist() == [[4, 5, 6, 3, 4, 5]] * 4
    assert made.truncation is not None  # the user's own is as it was


def sentences() -> Any:
    datasets = pytest.importorskip("datasets")
    texts = ["the cat sat", "the cat", "cat sat the cat sat", "sat"]
    return datasets.Dataset.from_dict({"text": texts, "label": [0, 1, 1, 0], "idx": [3, 4, 5, 6]})


@pytest.mark.parametrize("form", ["object", "folder", "parquet"])
def test_tables_of_text(tmp_path: Path, form: str) -> None:
    source: Any = sentences()
    if form == "folder":
        source.save_to_disk(tmp_path / "saved")
        source = tmp_path / "saved"
    elif form == "parquet":
        source.to_parquet(tmp_path / "a.parquet")
        source = tmp_path / "a.parquet"
    data = hs.load_data(source, tokenizer=word_tokenizer())
    assert data.inputs["input_ids"].tolist() == [
        [1, 4, 5, 6, 2, 0, 0],
        [1, 4, 5, 2, 0, 0, 0],
        [1, 5, 6, 4, 5, 6, 2],
        [1, 6, 2, 0, 0, 0, 0],
    ]
    assert data.inputs["attention_mask"].sum(1).tolist() == [5, 4, 7, 3]
    assert data.targets.tolist() == [0, 1, 1, 0]
    assert data.notes[-1] == "tokens of 'text' by Tokenizer"
    cut = hs.load_data(source, tokenizer=word_tokenizer(), context=4)
    assert cut.inputs["input_ids"].tolist() == [
        [1, 4, 5, 2], [1, 4, 5, 2], [1, 5, 6, 2], [1, 6, 2, 0],
    ]  # fmt: skip


def test_splits_of_a_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {
        name: datasets.Dataset.from_dict({"input_ids": [[n, 1], [n, 2]], "labels": [0, 1]})
        for name, n in (("train", 3), ("test", 4))
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    first = {
        split: hs.load_data(tmp_path / "saved", split=split).inputs["input_ids"][:, 0].tolist()
        for split in ("train", "test", "all")
    }
    assert first == {"train": [3, 3], "test": [4, 4], "all": [3, 3, 4, 4]}
    del parts["test"]
    with pytest.raises(DataError, match="no test split; it has: train"):
        hs.load_data(datasets.DatasetDict(parts), split="test")


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("a.txt", {}, OptionError, "tokenizer=characters"),
        ("a.txt", {"tokenizer": "nowhere"}, OptionError, "give a folder of transformers"),
        ("a.bin", {"tokenizer": "characters"}, OptionError, "has tokens already"),
        ("a.bin", {"context": 2000}, DataError, "fewer than an example of 2000"),
        ("a.bin", {"split": "test"}, DataError, "not divided"),
        ("wide.bin", {}, DataError, "token_type=uint32"),
        ("odd.bin", {}, DataError, "no whole number of tokens"),
        ("header.bin", {}, DataError, "llm.c"),
        ("cut.npy", {}, DataError, "damaged"),
        ("longer.npy", {}, DataError, "damaged"),
        ("objects.npy", {}, DataError, "no .npy|not a .npy"),
        ("table.npy", {}, DataError, "no targets"),
        ("a.npy", {"token_type": "uint16"}, OptionError, "that of .bin"),
        ("latin.txt", {"tokenizer": "characters"}, DataError, "UTF-8"),
        ("pairs.npz", {"context": 3}, OptionError, "`context` is for text and tokens"),
        ("pairs.npz", {"tokenizer": "characters"}, OptionError, "`tokenizer` is for text"),
        ("missing.bin", {}, DataError, "no data file"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, name: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    (tmp_path / "a.txt").write_text("abc" * 100)
    TOKENS.astype(np.uint16).tofile(tmp_path / "a.bin")
    TOKENS.astype(np.uint32).tofile(tmp_path / "wide.bin")
    (tmp_path / "odd.bin").write_bytes(bytes(1001))
    header = np.zeros(256, np.int32)
    header[:2] = 20240520, 1
    (tmp_path / "header.bin").write_bytes(header.tobytes() + TOKENS.astype(np.uint16).tobytes())
    np.save(tmp_path / "a.npy", TOKENS)
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-8])
    (tmp_path / "longer.npy").write_bytes(whole + bytes(8))
    np.save(tmp_path / "objects.npy", np.array([{}, 1], object), allow_pickle=True)
    np.save(tmp_path / "table.npy", np.ones((300, 3)))
    (tmp_path / "latin.txt").write_bytes("ä".encode("latin-1") * 300)
    np.savez(tmp_path / "pairs.npz", inputs=np.ones((4, 2)), targets=np.arange(4))
    with pytest.raises(error, match=message):
        hs.load_data(tmp_path / name, **options)
