"""One Hessian-vector product as a multiple of one gradient, hessscope beside its peers."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hessscope as hs
from benchmarks import measuring, problems

Work = dict[str, tuple[Callable[[], Any], int]]
LOADER_BATCH = 1000
#: Vectors at a time, by network.
WIDTHS = {"mlp": (1, 4, 16, 32), "resnet": (1,), "gpt": (1,), "vit": (1,)}
#: Examples that the targets are stated for.
COUNTS = {"mlp": 10_000, "resnet": 256, "gpt": 32, "vit": 32}
COMPILED = "hessscope, compiled"


def peers_are_there() -> bool:
    """Whether all three peers can be imported."""
    names = ("pyhessian", "curvlinops", "hessian_eigenthings")
    return all(importlib.util.find_spec(name) is not None for name in names)


def network(name: str, count: int, root: str | None) -> tuple[nn.Module, Any, Any, str]:
    """Model, inputs, targets and a description of one of ``WIDTHS``."""
    if name == "mlp":
        x, y, words = problems.mnist(count, root)
        return problems.mlp().eval(), x, y, f"MLP 784-25-10 ReLU, {words}, float32"
    if name == "gpt":
        x, y = problems.random_tokens(count)
        words = f"GPT, 4 layers of width 128, {count:,} sequences of 64 random bytes, float32"
        return problems.gpt(), x, y, words
    x, y = problems.random_images(count)
    if name == "vit":
        words = f"ViT, 4 layers of width 128, {count:,} random images of 32x32, float32"
        return problems.vit(), x, y, words
    return problems.resnet20(), x, y, f"ResNet-20, {count:,} random images of 32x32, float32"


def ours(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    widths: tuple[int, ...],
    compiled: bool = False,
) -> tuple[Work, str]:
    """Hessscope's products, and its plan in words with the time it took to make it."""
    start = time.perf_counter()
    loss = "cross_entropy@last" if y.ndim > 1 else "cross_entropy"
    risk = hs.EmpiricalRisk(model, (x, y), loss, dtype="float32", device="cpu")
    hessian = hs.HessianOperator(risk)
    words = f"{hessian.plan} (planned in {time.perf_counter() - start:.1f} s)"
    work: Work = {}
    if compiled:
        start = time.perf_counter()
        fused = hs.HessianOperator(risk, compile="always")
        vector = torch.randn(hessian.shape[0])
        fused.matvec(vector)
        words += f"; {fused.plan} (planned and compiled in {time.perf_counter() - start:.1f} s)"
        work[COMPILED] = (lambda: fused.matvec(vector), 1)
    for width in widths:
        block = torch.randn(hessian.shape[0], width)
        name = "hessscope, one vector" if width == 1 else f"hessscope, block of {width}"
        work[name] = (lambda block=block: hessian.apply(block), width)
    return work, words


def peers(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    widths: tuple[int, ...],
    compiled: bool = False,
) -> Work:
    """Products of the peers; curvlinops knows blocks, the others take a vector at a time.

    Attention is in its math kernel, since the fused ones have no second derivative.
    """
    import curvlinops
    import hessian_eigenthings
    import pyhessian

    parameters = list(model.parameters())
    model, y = flat(model, y), y.flatten()
    loss = nn.CrossEntropyLoss()
    vector = torch.randn(sum(p.numel() for p in parameters))
    parts = [torch.randn_like(p) for p in parameters]
    alike = TensorDataset(x, y if len(y) == len(x) else x)
    loader = DataLoader(alike, batch_size=min(LOADER_BATCH, len(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loading = pyhessian.hessian(model, loss, dataloader=loader, cuda=False)
        listed = pyhessian.hessian(model, loss, dataloader=[(x, y)], cuda=False)
        linear = curvlinops.HessianLinearOperator(
            model, loss, parameters, [(x, y)], check_deterministic=False
        )
    things = hessian_eigenthings.HessianOperator(
        model, [(x, y)], hessian_eigenthings.supervised_loss(loss)
    )
    work: Work = {
        "PyHessian, DataLoader": (lambda: loading.dataloader_hv_product(parts), 1),
        "PyHessian, list of batches": (lambda: listed.dataloader_hv_product(parts), 1),
        "hessian-eigenthings": (lambda: things.matvec(vector), 1),
        "curvlinops, one vector": (lambda: linear @ vector, 1),
    }
    for width in widths[1:]:
        block = torch.randn(len(vector), width)
        work[f"curvlinops, {width} columns"] = (lambda block=block: linear @ block, width)
    if compiled:
        fused = curvlinops.HessianLinearOperator(
            model, loss, parameters, [(x, y)], check_deterministic=False
        )
        fused.__dict__["_mp"] = torch.compile(fused._mp)
        work["curvlinops, compiled"] = (lambda: fused @ vector, 1)
    return {way: (in_math(function), width) for way, (function, width) in work.items()}


def flat(model: nn.Module, y: torch.Tensor) -> nn.Module:
    """The model with a row for each target, as torch's loss takes them."""
    return model if y.ndim == 1 else nn.Sequential(model, nn.Flatten(0, 1))


def in_math(function: Callable[[], Any]) -> Callable[[], Any]:
    """The function with attention in its math kernel."""

    def call() -> Any:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return function()

    return call


def everything(
    name: str, count: int, root: str | None, compiled: bool = True
) -> tuple[Work, str, str]:
    """All work on one network: the gradient, the peers if there are any, and hessscope."""
    model, x, y, words = network(name, count, root)
    parameters, rows = list(model.parameters()), flat(model, y)

    def loss() -> torch.Tensor:
        return F.cross_entropy(rows(x), y.flatten())

    work: Work = {"gradient": (lambda: torch.autograd.grad(loss(), parameters), 1)}
    compiled = compiled and name != "mlp"
    if peers_are_there():
        work |= peers(model, x, y, WIDTHS[name], compiled and name == "gpt")
        if name != "mlp":  # loading costs nothing beside convolutions
            del work["PyHessian, DataLoader"]
    mine, plan = ours(model, x, y, WIDTHS[name], compiled)
    return work | mine, words, plan


def products(
    name: str, count: int, root: str | None, repeats: int, compiled: bool = True
) -> dict[str, Any]:
    """Time all ways of computing a product in turn."""
    work, words, plan = everything(name, count, root, compiled)
    return {
        "what": words,
        "plan": plan,
        "repeats": repeats,
        "full": count == COUNTS[name],
        "peers": peers_are_there(),
        "times": measuring.interleaved(work, repeats),
        "widths": {way: width for way, (_, width) in work.items()},
        "machine": measuring.machine(),
    }


def product_memory(name: str, count: int, root: str | None, way: str) -> int:
    """Bytes that one way of computing a product takes beyond the model and its data."""
    model, x, y, _ = network(name, count, root)
    before = measuring.peak_bytes()
    if way.startswith("hessscope"):
        width = int(way.rsplit(" ", 1)[1]) if "block" in way else 1
        ours(model, x, y, (width,), way == COMPILED)[0][way][0]()
    elif way == "gradient":
        value = F.cross_entropy(flat(model, y)(x), y.flatten())
        torch.autograd.grad(value, list(model.parameters()))
    else:
        peers(model, x, y, WIDTHS[name], "compiled" in way)[way][0]()
    return measuring.peak_bytes() - before
