"""``hessscope inspect``: what is in a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from hessscope.options.inspect import InspectOptions
from hessscope_cli.commands import Screen, answer
from hessscope_cli.layout import add_data, add_fact, add_loss, facts_table, plain_table, shortened

if TYPE_CHECKING:
    from hessscope.pipeline import Inspection

EXAMPLES = """
hessscope inspect model.pt

hessscope inspect model.pt --data mnist --split test

hessscope inspect whole_module.pth --trust --model net.py:CNN
"""


def command(options: InspectOptions, screen: Screen) -> None:
    """Format, layers and metadata of a checkpoint; with --data also loss and accuracy.

    No linear algebra: a few passes over the data at most.
    """
    from hessscope.pipeline import inspect_checkpoint

    answer(options, screen, lambda watched: inspect_checkpoint(**vars(watched)), show=tables)


def tables(report: Inspection) -> list[RenderableType]:
    """What is in a checkpoint."""
    checkpoint, opened = report.checkpoint, report.opened
    facts = facts_table()
    add_fact(facts, "checkpoint", str(checkpoint.path))
    add_fact(facts, "format", checkpoint.format)
    source = [checkpoint.architecture_source]
    if checkpoint.activation_source is not None:
        source.append(f"activation {checkpoint.activation_source}")
    add_fact(facts, "architecture", checkpoint.architecture, *source)
    add_fact(facts, "parameters n", f"{checkpoint.parameters:,}")
    if checkpoint.buffers:
        names = shortened(", ".join(buffer.name for buffer in checkpoint.buffers))
        add_fact(facts, "buffers", f"{len(checkpoint.buffers):,}", f"not trained: {names}")
    for key, value in checkpoint.metadata.items():
        add_fact(facts, key, shortened(str(value)))
    if opened is not None:
        known = {**opened.as_dict(), "loss": report.loss, "accuracy": report.accuracy}
        facts.add_row()
        add_data(facts, known)
        add_loss(facts, known)
        add_fact(facts, "gradient norm", f"{report.gradient_norm:.4g}")
    layers = plain_table("parameter", "shape", "dtype", "count", left=("parameter", "dtype"))
    for layer in checkpoint.layers:
        shape = " x ".join(map(str, layer.shape)) or "scalar"
        layers.add_row(Text(layer.name), shape, layer.dtype, f"{layer.parameters:,}")
    return [facts, layers]
