"""Options that every command shares: network, data, loss, and what to compute on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, MISSING, dataclass
from pathlib import Path
from typing import Any

from hessscope.options.data import DataOptions
from hessscope.options.fields import (
    LOSS,
    NETWORK,
    OUTPUT,
    Options,
    memory,
    number,
    one_of,
    option,
    under,
)
from hessscope.registry import PRODUCTS

#: Data and loss of the papers' experiments, by preset.
PRESETS: dict[str, dict[str, Any]] = {
    # The published code of arXiv:1706.02052, which differs from its text.
    "sankar2017": {
        "data": "mnist",
        "split": "all",
        "subset": 60_000,
        "normalize": "center",
        "loss": "softmax_mse",
    },
    # The MNIST experiments of arXiv:1406.2572: images of 10 x 10 pixels.
    "dauphin2014": {"data": "mnist", "resize": "10", "loss": "cross_entropy"},
}
#: Their networks and how these are trained.
TRAINING_PRESETS: dict[str, dict[str, Any]] = {
    "sankar2017": {
        "model": "mlp:784-25-10:relu",
        "optimizer": "momentum",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "batch_size": 128,
        "shuffle": False,
        "epochs": 100,
        "initialization": "xavier_normal",
    },
    # Appendices C and F of arXiv:1406.2572: starts of searches lie within 20 epochs of
    # saddle-free Newton, with the damping chosen from these at each update.
    "dauphin2014": {
        "optimizer": "sfn",
        "epochs": 20,
        "damping": (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    },
}
PAPERS = {"sankar2017": "arXiv:1706.02052", "dauphin2014": "arXiv:1406.2572"}


_network, _loss, _output = under(NETWORK), under(LOSS), under(OUTPUT, decides=False)


@dataclass(frozen=True)
class OneCheckpoint(Options):
    """The checkpoint, for commands that look at one."""

    checkpoint: Any = option(
        MISSING,
        "Checkpoint: state_dict, Lightning, safetensors, TorchScript, torch.export, module; a "
        "folder of save_pretrained, hf:NAME, hf:NAME@REVISION; file.py:factory for its own "
        "weights. In Python also a module, or a state_dict with `model`.",
        "MODEL",
        argument=True,
    )


@dataclass(frozen=True)
class Setting(DataOptions):
    """Network, data and loss; what is None is left to preset, checkpoint and defaults."""

    _: KW_ONLY
    loss: str | Callable[..., Any] | None = _loss(
        None,
        "cross_entropy (default; takes logits), next_token, mse, softmax_mse, bce, nll, "
        "nll_probabilities, or file.py:function of outputs and targets, or of model and batch. "
        "cross_entropy@1 and cross_entropy@last state the axis of the classes.",
        "LOSS",
    )
    l2: float | None = _loss(
        None, "Add l2/2 times the squared norm of the parameters to the loss.", "X", number(0)
    )
    preset: str | None = _loss(
        None,
        "Data and loss of a paper: sankar2017 or dauphin2014. Explicit options override it.",
        "NAME",
        one_of(PRESETS, "preset"),
    )
    model: Any = _network(
        None,
        "Architecture, where the file has none: file.py:factory, package.module:factory, "
        "mlp:784-25-10:relu, timm:NAME, a folder of save_pretrained. Plain perceptrons are "
        "inferred from the shapes.",
        "SPEC",
    )
    activation: str | None = _network(
        None,
        "Activation of an inferred perceptron: relu, tanh, sigmoid, … Default: the one that fits "
        "the data best.",
        "NAME",
    )
    trust: bool = _network(
        False, "Allow the file to execute code when it is loaded (pickled modules, TorchScript)."
    )
    key: str | None = _network(
        None, "Network to take where the file holds several: generator, models.0.", "KEY"
    )
    dtype: str | None = option(
        None,
        "float64 (default), or float32: faster, with a noise floor about 10⁹ times higher. Spectra "
        "also in bfloat16 (torch.autocast): extremes with a measured noise floor, no counts.",
        "TYPE",
    )
    device: str = option("auto", "auto (CUDA if there is one), cpu or cuda.", "DEVICE")


@dataclass(frozen=True, kw_only=True)
class FigureFile(Options):
    """Where a figure goes."""

    plot: str | Path | None = _output(None, "Figure as .png, .pdf or .svg.", "FILE", Path)
    overwrite: bool = _output(False, "Replace output files that exist.")


@dataclass(frozen=True, kw_only=True)
class Outputs(FigureFile):
    """Where results go."""

    out: str | Path | None = _output(
        None,
        "Record. Default on the command line: a numbered name in this folder.",
        "FILE.h5",
        Path,
    )


@dataclass(frozen=True, kw_only=True)
class Products(Options):
    """How products with the Hessian are computed."""

    products: Any = option(
        "exact",
        f"{', '.join(PRODUCTS)}. exact: by second derivatives. finite_difference: from gradients "
        "alone, for models whose kernels have no second derivative; the error is measured and "
        "enters the noise floor.",
        "HOW",
        read=one_of(PRODUCTS),
    )


@dataclass(frozen=True, kw_only=True)
class Memory(Options):
    """How much memory the work may take."""

    memory: int | str | None = option(
        None,
        "Maximum memory to hold, such as 4GB. Default: four fifths of what is free.",
        "SIZE",
        read=memory,
        decides=False,
    )

    @property
    def memory_in_bytes(self) -> int | None:
        """The same, as it was read."""
        assert not isinstance(self.memory, str)
        return self.memory
