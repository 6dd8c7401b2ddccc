"""Folders of ``save_pretrained``: all weights, or an error; nothing random remains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import hessscope as hs
from hessscope.errors import (
    ArchitectureError,
    CheckpointError,
    HessscopeError,
    UntrustedCheckpointError,
)
from hessscope.loaders import read_setting
from hessscope.pipeline import find_checkpoints

transformers = pytest.importorskip("transformers")

TEXT = {
    "vocab_size": 17, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 16,
}  # fmt: skip
GPT2 = {
    "vocab_size": 17, "n_positions": 12, "n_embd": 8, "n_layer": 2, "n_head": 2,
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
IMAGE = {
    "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 8, "patch_size": 4, "num_labels": 3,
}  # fmt: skip


def made(kind: str, **config: Any) -> Any:
    torch.manual_seed(0)
    network = getattr(transformers, kind)
    return network(network.config_class(**config)).eval()


def save(model: Any, folder: Path, **how: Any) -> Path:
    model.save_pretrained(folder, **how)
    return folder


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return save(made("BertForSequenceClassification", **TEXT, num_labels=3), tmp_path / "bert")


CASES = {
    "GPT-2, tied": ("GPT2LMHeadModel", GPT2, {}, None),
    "Llama, bfloat16, shards": (
        "LlamaForCausalLM",
        {**TEXT, "num_key_value_heads": 1},
        {"max_shard_size": "1KB"},
        torch.bfloat16,
    ),
    "BERT, float16": (
        "BertForSequenceClassification", {**TEXT, "num_labels": 3}, {}, torch.float16,
    ),
    "ViT, shards": ("ViTForImageClassification", IMAGE, {"max_shard_size": "3KB"}, None),
    "ViT, bfloat16": ("ViTForImageClassification", IMAGE, {}, torch.bfloat16),
    "Mixtral, whose experts are stored apart": (
        "MixtralForCausalLM", {**TEXT, "num_key_value_heads": 1, "num_local_experts": 2}, {}, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_all_weights_and_the_outputs_are_those_of_from_pretrained(
    case: str, tmp_path: Path
) -> None:
    kind, config, how, dtype = CASES[case]
    model = made(kind, **config).to(dtype or torch.float32)
    folder = save(model, tmp_path / "saved", **how)
    assert ("max_shard_size" in how) == (len(list(folder.glob("*.safetensors"))) > 1)
    reference = getattr(transformers, kind).from_pretrained(
        folder, dtype=dtype or torch.float32, attn_implementation="eager"
    )
    found = hs.load_checkpoint(folder)
    states = found.model.state_dict(), reference.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, value in states[1].items():
        assert states[0][name].dtype == value.dtype
        assert torch.equal(states[0][name], value), name
    assert found.parameters == sum(p.numel() for p in reference.parameters())
    if "ViT" in kind:
        inputs = {"pixel_values": torch.randn(2, 3, 8, 8, dtype=dtype)}
    else:
        inputs = {"input_ids": torch.randint(0, 17, (2, 7))}
    with torch.no_grad():
        outputs = found.model(**inputs), reference.eval()(**inputs)
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    assert not found.model.training
    assert f"{kind} (transformers {transformers.__version__})" == found.architecture
    narrow = {torch.bfloat16: "bfloat16", torch.float16: "float16"}.get(dtype)
    expected = f"weights in {narrow} are cast up for the computation"
    assert found.notes == ((expected,) if narrow else ())


def test_shards_in_bin_files_are_read_without_running_pickles(tmp_path: Path) -> None:
    model = made("GPT2LMHeadModel", **GPT2)
    folder = save(model, tmp_path / "saved")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    half = len(names) // 2
    parts = {
        "pytorch_model-00001-of-00002.bin": names[:half],
        "pytorch_model-00002-of-00002.bin": names[half:],
    }
    for file, part in parts.items():
        torch.save({name: state[name] for name in part}, folder / file)
    places = {name: file for file, part in parts.items() for name in part}
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    found = hs.load_checkpoint(folder)
    for name, value in model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], value)

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (folder / "ran",))

    torch.save({names[0]: state[names[0]], "x": Evil()}, folder / next(iter(parts)))
    with pytest.raises(UntrustedCheckpointError):
        hs.load_checkpoint(folder)
    assert not (folder / "ran").exists()


def test_spectrum_of_a_folder_is_that_of_the_dense_hessian(tmp_path: Path) -> None:
    config = {**TEXT, "hidden_size": 4, "intermediate_size": 4, "num_attention_heads": 1}
    config |= {"vocab_size": 7, "max_position_embeddings": 5}
    folder = save(made("BertForSequenceClassification", **config, num_labels=3), tmp_path / "saved")
    ids, labels = torch.randint(1, 7, (6, 5)), torch.tensor([0, 1, 2, 0, 1, 2])
    report = hs.spectrum(folder, ({"input_ids": ids}, labels))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager"
    ).double()
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = theta.split(sizes)
        own = {n: t.view(p.shape) for (n, p), t in zip(named.items(), parts, strict=True)}
        logits = torch.func.functional_call(model, own, kwargs={"input_ids": ids}).logits
        return nn.functional.cross_entropy(logits, labels)

    theta = torch.cat([p.detach().ravel() for p in named.values()])
    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, theta))
    found = torch.from_numpy(report.eigenvalues)
    assert torch.allclose(found, values, rtol=0, atol=1e-12 * float(values.abs().max()) * 100)
    assert any("taken from the checkpoint: loss cross_entropy" in note for note in report.notes)
    assert report.as_dict()["architecture"].startswith("BertForSequenceClassification (transform")


LOSSES = [
    ("GPT2LMHeadModel", GPT2, "next_token"),
    ("BertForMaskedLM", TEXT, "cross_entropy@last"),
    ("BertForTokenClassification", TEXT, "cross_entropy@last"),
    ("ViTForImageClassification", IMAGE, "cross_entropy"),
    ("BertForSequenceClassification", {**TEXT, "num_labels": 1}, "mse"),
    (
        "BertForSequenceClassification",
        {**TEXT, "num_labels": 4, "problem_type": "multi_label_classification"},
        "bce",
    ),
    ("BertForSequenceClassification", {**TEXT, "problem_type": "regression"}, "mse"),
    ("BertModel", TEXT, None),
]


@pytest.mark.parametrize(("kind", "config", "loss"), LOSSES)
def test_the_class_says_what_it_minimises(
    kind: str, config: dict[str, Any], loss: str | None, tmp_path: Path
) -> None:
    stated = read_setting(save(made(kind, **config), tmp_path / "saved"))
    assert stated is not None
    assert stated.loss == loss
    assert stated.as_dict().keys() <= {"loss"}


def rewrite(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    kept = {k: v for k, v in {**config, **changes}.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(kept))


def test_a_class_that_is_not_in_transformers_falls_back_to_the_kind(bert: Path) -> None:
    rewrite(bert, architectures=["MyBertForSequenceClassification"], return_dict=False)
    outputs = hs.load_checkpoint(bert).model(torch.ones(1, 3, dtype=torch.long))
    assert outputs.logits.shape == (1, 3)
    assert type(hs.load_checkpoint(bert).model).__name__ == "BertForSequenceClassification"
    rewrite(bert, architectures=None)
    with pytest.raises(ArchitectureError, match=r"unexpected in the file: classifier\.bias"):
        hs.load_checkpoint(bert)


REFUSED = {
    "no JSON": ("{", r"config\.json is no JSON"),
    "a list": ("[]", r"holds a list, not an object"),
    "class of another family": ({"architectures": ["GPT2LMHeadModel"]}, "do not belong together"),
    "no class": ({"architectures": ["os.system:x"]}, "which can be no class"),
    "classes are no list": ({"architectures": "Bert"}, "architectures is 'Bert'"),
    "no module": ({"architectures": ["AutoConfig"], "num_hidden_layers": 2}, "do not fit|unexpec"),
    "other sizes": ({"hidden_size": 16}, r"LayerNorm\.bias( is \(8,\) in the file and \(16,\))?"),
    "more layers": ({"num_hidden_layers": 2}, r"missing in the file: bert\.encoder\.layer\.1"),
    "millions of layers": ({"num_hidden_layers": 10**7}, "10,000,000, and there are"),
    "unknown family": ({"model_type": "no_such"}, "no_such"),
    "no family": ({"model_type": None}, "does not state model_type"),
    "quantised": ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised"),
    "nonsense": ({"hidden_size": "many"}, "cannot make"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_config_that_does_not_fit_is_refused(case: str, bert: Path) -> None:
    change, words = REFUSED[case]
    if isinstance(change, str):
        (bert / "config.json").write_text(change)
    else:
        rewrite(bert, **change)
    with pytest.raises(CheckpointError, match=words) as error:
        hs.load_checkpoint(bert)
    assert str(bert) in str(error.value)


def test_nothing_random_remains(bert: Path) -> None:
    path = bert / "model.safetensors"
    state = load_file(path)
    del state["classifier.bias"]
    save_file(state, path)
    with pytest.raises(ArchitectureError, match=r"missing in the file: classifier\.bias"):
        hs.load_checkpoint(bert)
    save_file({**state, "classifier.bias": torch.zeros(5)}, path)
    with pytest.raises(ArchitectureError, match=r"classifier\.bias"):
        hs.load_checkpoint(bert)
    save_file({**state, "classifier.bias": torch.zeros(3), "more": torch.zeros(3)}, path)
    with pytest.raises(ArchitectureError, match="unexpected in the file: more"):
        hs.load_checkpoint(bert)


def test_an_index_reaches_no_file_outside_its_folder(tmp_path: Path) -> None:
    folder = save(made("GPT2LMHeadModel", **GPT2), tmp_path / "saved", max_shard_size="2KB")
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())
    first = next(iter(places["weight_map"]))
    shard = places["weight_map"][first]
    shutil.copy(folder / shard, tmp_path / "outside.safetensors")
    for outside in ("../outside.safetensors", str(tmp_path / "outside.safetensors")):
        index.write_text(json.dumps({"weight_map": {**places["weight_map"], first: outside}}))
        with pytest.raises(CheckpointError, match="is not the name of a file beside it"):
            hs.load_checkpoint(folder)
    index.write_text(json.dumps(places))
    (folder / shard).unlink()
    with pytest.raises(CheckpointError, match=f"{shard} is not there"):
        hs.load_checkpoint(folder)


def test_the_digest_covers_config_and_all_shards(tmp_path: Path) -> None:
    model = made("GPT2LMHeadModel", **GPT2)
    folder = save(model, tmp_path / "saved", max_shard_size="2KB")
    before = hs.load_checkpoint(folder).sha256
    assert hs.load_checkpoint(folder).sha256 == before
    rewrite(folder, activation_function="relu")
    changed = hs.load_checkpoint(folder).sha256
    shard = max(folder.glob("*.safetensors"))
    save_file({k: v + 1 for k, v in load_file(shard).items()}, shard)
    assert len({before, changed, hs.load_checkpoint(folder).sha256}) == 3


CODE = """
from transformers import BertConfig, BertForSequenceClassification
class OwnConfig(BertConfig):
    model_type = "own"
class Own(BertForSequenceClassification):
    config_class = OwnConfig
"""


def test_code_in_the_folder_runs_only_with_trust(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    expected = hs.load_checkpoint(bert)
    (bert / "own.py").write_text(CODE)
    rewrite(
        bert,
        architectures=["Own"],
        model_type="own",
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.Own"},
    )
    with pytest.raises(UntrustedCheckpointError, match="`trust=True`"):
        hs.load_checkpoint(bert)
    assert "these are the stored tensors" in " ".join(hs.inspect_checkpoint(bert).notes)
    found = hs.load_checkpoint(bert, trust=True)
    assert type(found.model).__name__ == "Own"
    ids = torch.arange(5)[None]
    assert torch.equal(found.model(ids).logits, expected.model(ids).logits)
    assert hs.load_checkpoint(bert, lambda: expected.model).architecture == "<lambda>"
    (bert / "own.py").write_text(CODE + "\n")
    assert hs.load_checkpoint(bert, trust=True).sha256 != found.sha256


def test_without_transformers_the_message_names_the_extra(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ArchitectureError, match=r"pip install 'hessscope\[hf\]'"):
        hs.load_checkpoint(bert)
    assert hs.inspect_checkpoint(bert).checkpoint.parameters > 0


def test_a_folder_is_one_checkpoint_and_folders_of_steps_are_a_series(
    bert: Path, tmp_path: Path
) -> None:
    assert find_checkpoints(f"{bert}/") == (bert,)
    steps = []
    for step in (10, 9):
        steps.append(tmp_path / "run" / f"checkpoint-{step}")
        shutil.copytree(bert, steps[-1])
        torch.save({"state": {}, "param_groups": []}, steps[-1] / "optimizer.pt")
        state = {"epoch": step / 2, "global_step": step, "log_history": []}
        (steps[-1] / "trainer_state.json").write_text(json.dumps(state))
    assert find_checkpoints(tmp_path / "run") == tuple(reversed(steps))
    assert hs.load_checkpoint(steps[0]).metadata["epoch"] == 5.0


def test_command_line_inspects_and_refines_a_folder(bert: Path, work: Path, run: Any) -> None:
    outcome = run("inspect", str(bert), "--json")
    assert json.loads(outcome.out)["architecture_source"] == "in the file"
    data = ({"input_ids": torch.randint(0, 17, (4, 5))}, torch.tensor([0, 1, 2, 0]))
    report = hs.refine_checkpoint(bert, data, save=work / "moved.pt", max_iterations=1)
    assert any("plain state dict" in note for note in report.notes)
    moved = hs.load_checkpoint(work / "moved.pt", str(bert))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(bert)
    stored = torch.load(work / "moved.pt")
    for name, value in model.named_parameters():
        assert torch.equal(moved.model.get_parameter(name), stored[name])
        assert torch.allclose(moved.model.get_parameter(name).float(), value, atol=1)
    assert f"network of {bert} (SHA-256 {hs.load_checkpoint(bert).sha256[:16]})" in str(
        moved.architecture
    )


def test_tied_weights_of_any_module_may_be_stored_once(tmp_path: Path) -> None:
    from safetensors.torch import save_model

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 3)
            self.head = nn.Linear(3, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(ids))

    model = Tied()
    save_model(model, str(tmp_path / "tied.safetensors"))
    state = {"embed.weight": model.embed.weight}
    torch.save(state, tmp_path / "embed.pt")
    torch.save({"head.weight": model.head.weight}, tmp_path / "head.pt")
    for name in ("tied.safetensors", "embed.pt", "head.pt"):
        found = hs.load_checkpoint(tmp_path / name, Tied)
        assert found.parameters == 21
        assert torch.equal(found.model.head.weight, model.embed.weight)
        assert found.model.head.weight is found.model.embed.weight


def hub(folder: Path, cache: Path, name: str, commit: str) -> None:
    """Put a folder into a cache of the hub, as it lays it out."""
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)


def test_the_cache_of_the_hub(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    cache, commit = tmp_path / "hub", "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub(bert, cache, "team/bert", commit)
    for name in ("hf:team/bert", "hf:team/bert@main", f"hf:team/bert@{commit}"):
        found = hs.load_checkpoint(name)
        assert str(found.path) == f"hf:team/bert@{commit}"
        assert found.sha256 == hs.load_checkpoint(bert).sha256
    outcome = run("inspect", "hf:team/bert", "--json")
    assert commit in json.loads(outcome.out)["checkpoint"]
    for missing in ("hf:team/none", "hf:team/bert@other", "hf:"):
        with pytest.raises(CheckpointError, match=f"{missing} is neither in the local cache"):
            hs.load_checkpoint(missing)


def adapter(model: Any, folder: Path, **config: Any) -> Any:
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, **config))
    for name, value in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(value)
    adapted.save_pretrained(folder)
    return adapted.eval()


def test_an_adapter_is_merged_into_its_base(tmp_path: Path) -> None:
    base = save(made("LlamaForCausalLM", **TEXT), tmp_path / "base")
    model = transformers.LlamaForCausalLM.from_pretrained(base)
    adapter(
        model, tmp_path / "lora", task_type="CAUSAL_LM", lora_alpha=6, target_modules="all-linear"
    )
    found = hs.load_checkpoint(tmp_path / "lora")
    before, low = (
        load_file(base / "model.safetensors"),
        load_file(tmp_path / "lora" / "adapter_model.safetensors"),
    )
    changed = 0
    for name, value in found.model.state_dict().items():
        expected, stem = before[name], f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in low:
            changed += 1
            expected = expected + 3 * low[f"{stem}.lora_B.weight"] @ low[f"{stem}.lora_A.weight"]
        assert torch.allclose(value, expected, rtol=1e-6, atol=1e-6), name
    assert changed == 7
    assert all(p.requires_grad for p in found.model.parameters())
    assert found.parameters == sum(v.numel() for v in before.values())
    setting = read_setting(tmp_path / "lora")
    assert setting is not None
    assert setting.loss == "next_token"
    digest = found.sha256
    save_file({k: v + 1 for k, v in before.items()}, base / "model.safetensors", {"format": "pt"})
    assert hs.load_checkpoint(tmp_path / "lora").sha256 != digest


def test_an_adapter_brings_its_own_head(tmp_path: Path) -> None:
    base = save(made("LlamaForCausalLM", **TEXT), tmp_path / "base")
    model = transformers.LlamaForSequenceClassification.from_pretrained(base, num_labels=3)
    model.config.pad_token_id = 0
    adapted = adapter(model, tmp_path / "lora", task_type="SEQ_CLS")
    found = hs.load_checkpoint(tmp_path / "lora")
    ids = torch.randint(1, 17, (1, 6))
    assert torch.allclose(found.model(ids).logits, adapted(ids).logits, atol=1e-5)
    # BERT's pooler is neither in this base nor in the adapter.
    base = save(made("BertForMaskedLM", **TEXT), tmp_path / "masked")
    model = transformers.BertForSequenceClassification.from_pretrained(base, num_labels=3)
    adapter(model, tmp_path / "bert", task_type="SEQ_CLS")
    with pytest.raises(ArchitectureError, match=r"missing in the file: bert\.pooler"):
        hs.load_checkpoint(tmp_path / "bert")


def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    base = save(made("LlamaForCausalLM", **TEXT), tmp_path / "base")
    model = transformers.LlamaForCausalLM.from_pretrained(base)
    folder = tmp_path / "lora"
    adapter(model, folder, task_type="CAUSAL_LM", target_modules=["q_proj"])
    weights = folder / "adapter_model.safetensors"
    state = load_file(weights)
    save_file({k: v for k, v in state.items() if "lora_B" not in k}, weights)
    with pytest.raises(ArchitectureError, match="lora_B"):
        hs.load_checkpoint(folder)
    save_file({**state, "more": torch.zeros(2)}, weights)
    with pytest.raises(ArchitectureError, match="more"):
        hs.load_checkpoint(folder)
    save_file(state, weights)
    config = json.loads((folder / "adapter_config.json").read_text())
    for name, words in (
        (str(folder), "holds no network"),
        ("no/where", "hf:no/where is neither"),
        (None, "does not name the base"),
        ("net.py:make", "hf:net.py:make is neither"),
    ):
        stated = {**config, "base_model_name_or_path": name}
        (folder / "adapter_config.json").write_text(json.dumps(stated))
        with pytest.raises(CheckpointError, match=words):
            hs.load_checkpoint(folder)


NETS = """
import torch
from torch import nn
def seeded():
    torch.manual_seed(3)
    return nn.Linear(6, 3)
def unseeded():
    return nn.Linear(6, 3)
"""


def test_weights_of_a_factory_without_a_file(work: Path, run: Any) -> None:
    (work / "nets.py").write_text(NETS)
    data = {"inputs": torch.randn(9, 6), "targets": torch.arange(9) % 3}
    report = hs.spectrum("nets.py:seeded", data)
    torch.manual_seed(3)
    linear = nn.Linear(6, 3)
    assert torch.equal(report.opened.checkpoint.model.weight, linear.weight)
    assert report.opened.checkpoint.architecture == "nets.py:seeded"
    expected = hs.spectrum(linear, data)
    assert torch.equal(torch.from_numpy(report.eigenvalues), torch.from_numpy(expected.eigenvalues))
    before = hs.load_checkpoint("nets.py:seeded").sha256
    (work / "nets.py").write_text(NETS + "\n")
    assert hs.load_checkpoint("nets.py:seeded").sha256 != before
    with pytest.raises(CheckpointError, match=r"other weights at each call.*torch\.manual_seed"):
        hs.load_checkpoint("nets.py:unseeded")
    outcome = run("inspect", "nets.py:seeded", "--json")
    assert json.loads(outcome.out)["parameters"] == 21
    with pytest.raises(HessscopeError, match="Did you mean 'seeded'"):
        hs.load_checkpoint("nets.py:seded")
    with pytest.raises(CheckpointError, match="no such file"):
        hs.load_checkpoint("C:\\weights.pt")


def test_a_name_of_timm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made_by = SimpleNamespace(create_model=lambda name: nn.Linear(4, 2 if name == "tiny" else 3))
    monkeypatch.setitem(__import__("sys").modules, "timm", made_by)
    model = nn.Linear(4, 2)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    found = hs.load_checkpoint(tmp_path / "model.pt", "timm:tiny")
    assert torch.equal(found.model.weight, model.weight)
    with pytest.raises(ArchitectureError, match="timm:other"):
        hs.load_checkpoint(tmp_path / "model.pt", "timm:other")


def test_a_model_of_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm needs torchvision", exc_type=ImportError)
    model = timm.create_model("vit_tiny_patch16_224").eval()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    found = hs.load_checkpoint(tmp_path / "model.pt", "timm:vit_tiny_patch16_224")
    inputs = torch.randn(1, 3, 224, 224)
    assert torch.equal(found.model(inputs), model(inputs))
