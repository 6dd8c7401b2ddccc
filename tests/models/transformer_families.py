"""Tiny transformers with random weights, their data, and their dense Hessians by torch.func."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev

import hessscope as hs

SEVEN, LENGTH = 7, 4


def mean_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over the last axis, one value for each example."""
    losses = nn.functional.cross_entropy(
        outputs.flatten(0, -2), targets.flatten(), reduction="none"
    )
    return losses.view(len(targets), -1).mean(1)


def build(family: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A model with its inputs and targets."""
    torch.manual_seed(3)
    ids, classes = torch.randint(0, SEVEN, (3, LENGTH)), torch.randint(0, 2, (3,))
    if family == "torch":
        layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        flat = nn.Sequential(nn.Flatten(), nn.Linear(4 * LENGTH, 2))
        return shaken(nn.Sequential(nn.Embedding(SEVEN, 4), encoder, flat)), ids, classes
    t: Any = pytest.importorskip("transformers")
    text: dict[str, Any] = {"vocab_size": SEVEN, "attn_implementation": "eager"}
    text |= {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    llama = {"hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 1}
    llama |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    bert = {"hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert |= {"intermediate_size": 6}
    model: Any
    if family == "gpt2":
        sizes = {"n_positions": LENGTH, "n_embd": 4, "n_layer": 2, "n_head": 2, "n_inner": 6}
        model = t.GPT2LMHeadModel(t.GPT2Config(**text, **sizes))
    elif family == "llama":
        model = t.LlamaForCausalLM(t.LlamaConfig(**text, **llama))
    elif family == "qwen3":
        model = t.Qwen3ForCausalLM(t.Qwen3Config(**text, **llama, head_dim=4))
    elif family == "phi3":
        model = t.Phi3ForCausalLM(t.Phi3Config(**text, **llama))
    elif family == "neox":
        model = t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**text, **bert))
    elif family == "falcon":
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4}
        grouped = {"num_kv_heads": 2, "new_decoder_architecture": True, "ffn_hidden_size": 6}
        model = t.FalconForCausalLM(t.FalconConfig(**text, **sizes, **grouped))
    elif family == "bert":
        short = {**text, "pad_token_id": 0, "max_position_embeddings": LENGTH}
        model = t.BertForSequenceClassification(t.BertConfig(**short, **bert))
        return shaken(model), ids, classes
    else:
        image = {"image_size": 4, "patch_size": 2, "num_channels": 1}
        model = t.ViTForImageClassification(
            t.ViTConfig(**image, **bert, attn_implementation="eager")
        )
        return shaken(model), torch.randn(3, 1, 4, 4), classes
    return shaken(model), ids, torch.randint(0, SEVEN, (3, LENGTH))


def shaken(model: nn.Module) -> nn.Module:
    """With weights that are larger, and none of them zero or one."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.padding_idx = None  # torch's gradient leaves that row out
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model.eval()


def risk_of(family: str) -> hs.EmpiricalRisk:
    """The mean loss of a model over its data."""
    model, inputs, targets = build(family)
    return hs.EmpiricalRisk(model, (inputs, targets), loss=mean_loss, device="cpu")


def dense(family: str) -> torch.Tensor:
    """The whole Hessian by torch.func in float64, in the order of ``named_parameters``."""
    model, inputs, targets = build(family)
    model = model.double()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    named = dict(model.named_parameters())
    flat = torch.cat([p.detach().reshape(-1) for p in named.values()])

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = theta.split([p.numel() for p in named.values()])
        state = {n: x.view(p.shape) for (n, p), x in zip(named.items(), parts, strict=True)}
        outputs = functional_call(model, state, (inputs,))
        return mean_loss(getattr(outputs, "logits", outputs), targets).mean()

    # Language models cast to float32 in their norms.
    casts = (
        patch.object(torch, "float32", torch.float64),
        patch("torch.Tensor.float", torch.Tensor.double),
    )
    with casts[0], casts[1], torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return jacrev(grad(loss))(flat)
