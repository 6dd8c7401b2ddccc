"""Private names of torch: what each does for hessscope, and what breaks where torch changes it."""

from __future__ import annotations

import io

import torch
from torch import nn

from hessscope import torch_internals as internals


def test_every_operator_goes_through_a_dispatch_mode() -> None:
    """Else kinks, narrowing casts and randomised rounding are not seen."""
    seen: list[str] = []

    class Names(internals.DispatchMode):
        def call(self, func, args, kwargs):
            seen.append(internals.schema(func).name)
            return func(*args, **kwargs)

    with Names():
        torch.relu(torch.ones(2)).add_(1.0)
    assert seen == ["aten::ones", "aten::relu", "aten::add_"]


def test_schemas_tell_arguments_and_whether_they_are_written() -> None:
    """Else a kink's arguments are not found by their names."""
    clamp = internals.schema(torch.ops.aten.clamp.default)
    assert [argument.name for argument in clamp.arguments] == ["self", "min", "max"]
    assert clamp.arguments[1].has_default_value()
    assert not clamp.is_mutable
    assert internals.schema(torch.ops.aten.add_.Tensor).is_mutable


def test_the_setting_of_script_optimization_is_read() -> None:
    """Else second derivatives of TorchScript may be taken with parts of its graph hidden."""
    with torch.jit.optimized_execution(True):
        assert internals.scripts_are_optimized()
    with torch.jit.optimized_execution(False):
        assert not internals.scripts_are_optimized()


def test_both_forms_of_weight_normalization_are_found() -> None:
    """Else the wrong second derivative of torch's fused kernel is used."""
    new = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    assert any(map(internals.has_weight_norm, new.modules()))
    old = nn.utils.weight_norm(nn.Linear(2, 2))
    assert internals.has_weight_norm(old)
    assert not internals.has_weight_norm(nn.Linear(2, 2))
    g, v = torch.ones(2, 1), torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert torch.allclose(internals.WEIGHT_NORM(v, g, 0), v / v.norm(dim=1, keepdim=True))


def test_tensors_of_a_module_are_converted_in_place() -> None:
    """Else complex buffers lose their imaginary part."""
    model = nn.BatchNorm1d(3)
    weight = model.weight
    result = internals.convert_tensors(model, lambda t: t.double() if t.is_floating_point() else t)
    assert result.weight is weight
    assert {p.dtype for p in (*model.parameters(), model.running_mean)} == {torch.float64}


def test_writing_in_place_is_noticed() -> None:
    """Else a model that changes its inputs sees other data at every evaluation."""
    tensor = torch.zeros(3)
    assert not internals.is_written_to(tensor)
    tensor[:1].add_(1.0)
    assert internals.is_written_to(tensor)


def test_zeros_without_memory_are_known() -> None:
    """Else randomised rounding writes into tensors that have no memory."""
    assert internals.is_zero_tensor(torch._efficientzerotensor(2))
    assert not internals.is_zero_tensor(torch.zeros(2))


def test_views_share_their_memory() -> None:
    """Else values outside the graph of derivatives are not followed to the kinks they reach."""
    tensor = torch.zeros(4)
    assert internals.memory_of(tensor[1:]) == internals.memory_of(tensor.detach())
    assert internals.memory_of(torch.zeros(4)) != internals.memory_of(tensor)
    sparse = torch.eye(2).to_sparse()
    assert internals.memory_of(sparse) == internals.memory_of(sparse)


def test_the_network_within_a_compiled_one_is_found() -> None:
    inner = nn.Linear(2, 2)
    compiled = torch.compile(nn.Sequential(inner))
    assert internals.without_wrapper(compiled)[0] is inner
    nested = nn.Sequential(torch.compile(inner), nn.DataParallel(inner))
    assert internals.without_compiled_parts(nested)[0] is inner


def test_trees_are_walked_in_one_order() -> None:
    tree = {"b": (1, [2]), "a": 3}
    assert internals.tree_leaves(tree) == [1, 2, 3]
    assert internals.tree_map(lambda x: 2 * x, tree) == {"b": (2, [4]), "a": 6}


def test_the_old_format_is_written() -> None:
    """Else a refined checkpoint of the old format is written in the new one."""
    content = internals.saved({"weight": torch.ones(2)}, old=True)
    assert content[:1] == b"\x80"
    assert torch.equal(torch.load(io.BytesIO(content))["weight"], torch.ones(2))
