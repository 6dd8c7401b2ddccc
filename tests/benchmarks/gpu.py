"""The workloads for a CUDA device; any device serves for a trial at small sizes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import hessscope as hs
from benchmarks import measuring, problems
from benchmarks.products import peers_are_there
from models.cifar10_resnet20 import Block


class ResNet18(nn.Module):
    """ResNet-18 for 32x32 images; ``width`` is 64 in the usual one."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        blocks, inputs = [], width
        for stage in range(4):
            outputs = width * 2**stage
            blocks.append(Block(inputs, outputs, 1 if stage == 0 else 2, learned=True))
            blocks.append(Block(outputs, outputs, 1, learned=True))
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def _peak(device: str) -> int:
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return measuring.peak_bytes()


def exact(device: str, count: int, root: str | None, hidden: int = 25) -> dict[str, Any]:
    """Assembly and eigenvalues in float64."""
    x, y, words = problems.mnist(count, root)
    hessian = hs.HessianOperator(
        hs.EmpiricalRisk(problems.mlp(x.shape[1], hidden), (x, y), device=device)
    )
    assembly, _ = measuring.clock(hessian.to_dense)
    total, _ = measuring.clock(lambda: hs.ExactBackend().solve(hessian))
    what = f"MLP {x.shape[1]}-{hidden}-10, {words}, float64"
    return {"what": what, "assembly": assembly, "assembly and eigenvalues": total}


def _peers(model: nn.Module, batches: list[Any], loss: Any, device: str) -> dict[str, float]:
    """Seconds of one product of PyHessian and hessian-eigenthings."""
    if not peers_are_there():
        return {}
    import hessian_eigenthings
    import pyhessian

    model = model.to(device).eval()
    listed = pyhessian.hessian(model, loss, dataloader=batches, cuda=device == "cuda")
    moved = [(x.to(device), y.to(device)) for x, y in batches]
    things = hessian_eigenthings.HessianOperator(
        model, moved, hessian_eigenthings.supervised_loss(loss)
    )
    parts = [torch.randn_like(p) for p in model.parameters()]
    vector = torch.cat([part.flatten() for part in parts])
    work = {
        "PyHessian, one product": (lambda: listed.dataloader_hv_product(parts), 1),
        "hessian-eigenthings, one product": (lambda: things.matvec(vector), 1),
    }
    return {k: v["median"] for k, v in measuring.interleaved(work, 2).items()}


def _lanczos(
    model: nn.Module,
    data: tuple[torch.Tensor, torch.Tensor],
    batch: int,
    device: str,
    steps: int,
    probes: int,
) -> dict[str, float]:
    risk = hs.EmpiricalRisk(model, data, dtype="float32", device=device, batch_size=batch)
    hessian = hs.HessianOperator(risk)
    seconds, _ = measuring.clock(
        lambda: hs.LanczosBackend(steps=steps, probes=probes).solve(hessian)
    )
    return {f"Lanczos, {steps} steps x {probes} probes": seconds, "per product": seconds
            / (steps * probes)}  # fmt: skip


def resnet18(
    device: str, count: int = 10_000, steps: int = 100, probes: int = 4, width: int = 64
) -> dict[str, Any]:
    """Lanczos on images of CIFAR's size."""
    torch.manual_seed(0)
    model, (x, y) = ResNet18(width).eval(), problems.random_images(count)
    batches = list(zip(x.split(500), y.split(500), strict=True))
    times = _lanczos(model, (x, y), 500, device, steps, probes)
    times |= _peers(model, batches, nn.CrossEntropyLoss(), device)
    return {"what": f"ResNet-18, {count:,} images of 32x32, float32", **times}


def transformer(
    device: str, sequences: int = 8, steps: int = 10, probes: int = 1, **sizes: int
) -> dict[str, Any]:
    """Lanczos on a language model with random weights and tokens."""
    torch.manual_seed(0)
    model = problems.Transformer(**sizes).eval()
    vocabulary, length = len(model.tokens.weight), len(model.positions)
    tokens = torch.randint(0, vocabulary, (sequences, length + 1))
    x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    times = _lanczos(model, (x, y), 1, device, steps, probes)

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        times |= _peers(model, list(zip(x.split(1), y.split(1), strict=True)), loss, device)
    n = sum(p.numel() for p in model.parameters())
    what = f"transformer of {n:,} parameters, {sequences} sequences of {length} tokens, float32"
    return {"what": what, **times}


def gpu(root: str | None) -> dict[str, Any]:
    """All workloads, if there is a CUDA device."""
    if not torch.cuda.is_available():
        return {"runs": None, "machine": measuring.machine()}
    runs = []
    for work in (lambda: exact("cuda", 60_000, root), lambda: resnet18("cuda"),
                 lambda: transformer("cuda")):  # fmt: skip
        torch.cuda.reset_peak_memory_stats()
        runs.append(work() | {"peak": _peak("cuda")})
    facts = measuring.machine() | {"device": torch.cuda.get_device_name()}
    return {"runs": runs, "machine": facts}
