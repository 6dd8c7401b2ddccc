"""Nothing in a file runs unless the user trusts it: hostile and innocent files that carry code."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hessscope.errors import ArchitectureError, CheckpointError, UntrustedCheckpointError
from hessscope.loaders.checkpoints import CheckpointFile, load_checkpoint
from hessscope.loaders.plain_types import PlainArray, PlainDataError, PlainDtype, plain_scalar


class Payload:
    """Calls ``function(*arguments)`` when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


class Network(nn.Module):
    """A module that is pickled whole."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x).tanh()


WEIGHTS = {"0.weight": torch.ones(3, 4), "0.bias": torch.ones(3)}


def payloads(marker: Path) -> dict[str, Payload]:
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Payload(os.system, f"touch {marker}"),
        "eval": Payload(eval, code),
        "exec": Payload(exec, code),
        "open": Payload(open, str(marker), "w"),
        "getattr": Payload(getattr, str, "format"),
    }


def object_array(item: object) -> np.ndarray:
    array = np.empty(1, dtype=object)
    array[0] = item
    return array


WRAPPINGS: dict[str, Callable[[object], object]] = {
    "alone": lambda p: p,
    "beside": lambda p: {"state_dict": WEIGHTS, "acc": p},
    "nested": lambda p: {"state_dict": WEIGHTS, "a": {"b": [1, (p,)]}},
    "in the weights": lambda p: {"state_dict": {**WEIGHTS, "x": p}},
    "as key": lambda p: {"state_dict": WEIGHTS, (1, p): 3},
    "object array": lambda p: {"state_dict": WEIGHTS, "acc": object_array(p)},
    "lightning": lambda p: {
        "state_dict": WEIGHTS, "pytorch-lightning_version": "2", "hyper_parameters": {"x": p},
    },
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("payload", ["os.system", "eval", "exec", "open", "getattr"])
def test_hostile_pickles_do_not_run(
    tmp_path: Path, payload: str, wrapping: str, legacy: bool
) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "model.ckpt"
    content = WRAPPINGS[wrapping](payloads(marker)[payload])
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UntrustedCheckpointError, match="Safe: ") as caught:
        load_checkpoint(path)
    assert not marker.exists()
    assert "\n" not in str(caught.value)
    name = {"os.system": "system", "open": "open"}.get(payload, payload)
    assert name in str(caught.value)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_hostile_bare_pickles_do_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"w": payloads(marker)["os.system"]}, protocol=protocol))
    with pytest.raises(UntrustedCheckpointError, match="system"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_hostile_pickles_of_later_protocols_do_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "model.pt"
    torch.save({"a": WEIGHTS, "b": payloads(marker)["eval"]}, path, pickle_protocol=protocol)
    with pytest.raises(UntrustedCheckpointError):
        load_checkpoint(path)
    assert not marker.exists()


def test_stand_ins_of_numpy_refuse_objects() -> None:
    with pytest.raises(PlainDataError, match="not plain"):
        PlainDtype("O8")
    with pytest.raises(PlainDataError, match="not plain"):
        PlainDtype("V8")
    dtype = PlainDtype("f8")
    with pytest.raises(PlainDataError, match="fields"):
        dtype.__setstate__((3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0))
    with pytest.raises(PlainDataError, match="object"):
        plain_scalar(np.dtype("O"), b"12345678")
    with pytest.raises(PlainDataError, match="objects"):
        PlainArray().__setstate__((1, (1,), dtype, False, [object()]))
    with pytest.raises(ValueError, match="does not match"):
        PlainArray().__setstate__((1, (9,), dtype, False, b"12345678"))


def test_object_arrays_do_not_open(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"state_dict": WEIGHTS, "acc": object_array(3)}, path)
    with pytest.raises(UntrustedCheckpointError, match="not plain numbers"):
        load_checkpoint(path)


# --- whole modules ---------------------------------------------------------------------------


def pickled_in_main(path: Path, legacy: bool, wrap: Callable[[object], object]) -> nn.Module:
    """Save a whole module as if its class had been written in a script."""
    model = Network()
    original = Network.__module__
    import __main__

    Network.__module__, Network.__qualname__ = "__main__", "Script"
    __main__.Script = Network  # type: ignore[attr-defined]
    try:
        torch.save(wrap(model), path, _use_new_zipfile_serialization=not legacy)
    finally:
        Network.__module__, Network.__qualname__ = original, "Network"
        del __main__.Script  # type: ignore[attr-defined]
    return model


@pytest.mark.filterwarnings("ignore:.*source code.*")
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "wrap", [lambda m: m, lambda m: {"model": m, "epoch": 4}], ids=["alone", "in a dict"]
)
def test_whole_module_needs_trust_and_its_class(
    tmp_path: Path, legacy: bool, wrap: Callable[[object], object]
) -> None:
    path = tmp_path / "model.pth"
    model = pickled_in_main(path, legacy, wrap)
    with pytest.raises(UntrustedCheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "__main__.Script (a whole pickled module)" in message
    assert "`model=file.py:Script" in message
    with pytest.raises(ArchitectureError, match=r"__main__\.Script.*`model=file\.py:Script"):
        load_checkpoint(path, trust=True)
    file = tmp_path / "net.py"
    file.write_text(
        "import torch\nfrom torch import nn\nclass Script(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(4, 2)\n"
        "    def forward(self, x):\n        return self.fc(x).tanh()\n"
    )
    found = load_checkpoint(path, model=f"{file}:Script", trust=True)
    x = torch.randn(3, 4)
    torch.testing.assert_close(found.model(x), model(x), rtol=0, atol=0)
    assert found.format == "pickled module"
    assert found.architecture == "__main__.Script"
    assert found.architecture_source == "in the file"
    assert not found.model.training
    if isinstance(wrap(0), dict):
        assert found.metadata["epoch"] == 4
    import __main__

    assert not hasattr(__main__, "Script")


def test_class_of_other_code_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    pickled_in_main(path, False, lambda m: m)
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\nclass Script(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.out = nn.Linear(4, 2)\n"
    )
    with pytest.raises(ArchitectureError, match=r"other code.*out\.weight.*fc\.weight"):
        load_checkpoint(path, model=f"{file}:Script", trust=True)
    file.write_text("from torch import nn\nclass Other(nn.Module):\n    pass\n")
    with pytest.raises(ArchitectureError, match="has no 'Script'"):
        load_checkpoint(path, model=f"{file}:Other", trust=True)


def test_installed_classes_need_trust_only(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    path = tmp_path / "model.pth"
    torch.save(nn.DataParallel(model), path)
    with pytest.raises(UntrustedCheckpointError, match="whole pickled module"):
        load_checkpoint(path)
    x = torch.randn(3, 4)
    torch.testing.assert_close(load_checkpoint(path, trust=True).model(x), model(x))


def test_trusted_pickles_open(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    bare = tmp_path / "bare.pkl"
    bare.write_bytes(pickle.dumps({k: v.numpy() for k, v in model.state_dict().items()}))
    with pytest.raises(CheckpointError):
        load_checkpoint(bare)
    later = tmp_path / "later.pt"
    torch.save(model.state_dict(), later, pickle_protocol=4)
    with pytest.raises(UntrustedCheckpointError, match="protocol 4"):
        load_checkpoint(later)
    x = torch.randn(2, 4)
    for path in (bare, later):
        torch.testing.assert_close(load_checkpoint(path, trust=True).model(x), model(x))


# --- archives --------------------------------------------------------------------------------


def doctored(source: Path, target: Path, edit: Callable[[str, bytes], bytes | None]) -> Path:
    """Copy a zip archive, each entry's content edited (``None``: left out)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = edit(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.pt"
    torch.jit.script(Network().eval()).save(str(path))
    return path


@pytest.mark.parametrize(
    "line",
    [
        'torch.save(x, "MARKER")',
        '(x).save("MARKER")',
        "ops.aten.save(x, 'MARKER')",
        'ops.aten.save(x, "MARKER")',
        '_0 = torch.from_file("MARKER", True, 1)',
        '_0 = torch\n    (_0).save(x, "MARKER")',
        '_0 = ops.aten\n    _0.save(x, "MARKER")',
        '_0 = getattr(torch, "save")(x, "MARKER")',
        '_0 = getattr(x, "save")("MARKER")',
        "ops.mylib.run(x)",
        "ops.prim.PythonOp(x)",
        '_0 = __torch__.torch.classes.dist_rpc.WorkerInfo("a", 1)',
        "torch . save(x)",
        '_0 = """"""; torch.save(x, "MARKER"); _1 = """"""',
        "while True:\n      pass",
    ],
)
def test_torchscript_that_reaches_outside_does_not_run(
    script: Path, tmp_path: Path, line: str
) -> None:
    marker = tmp_path / "marker"

    def edit(name: str, content: bytes) -> bytes:
        if not name.endswith(".py"):
            return content
        body = line.replace("MARKER", str(marker))
        # __setstate__ runs while the archive is loaded.
        return content.replace(b"  def forward", f"  def __setstate__(self, x: Tensor) -> NoneType:\n    {body}\n    return None\n  def forward".encode(), 1)  # fmt: skip  # noqa: E501

    path = doctored(script, tmp_path / "doctored.pt", edit)
    with pytest.raises(UntrustedCheckpointError, match="TorchScript archive, whose program"):
        load_checkpoint(path)
    assert load_checkpoint(path, model=Network).parameters == 10
    assert CheckpointFile.open(path).tensors().parameters == 10
    assert not marker.exists()


def test_torchscript_with_two_entries_of_one_name_is_refused(script: Path, tmp_path: Path) -> None:
    path = doctored(script, tmp_path / "doctored.pt", lambda name, content: content)
    with zipfile.ZipFile(path, "a") as archive:
        name = next(n for n in archive.namelist() if n.endswith(".py"))
        archive.writestr(name.replace("code/", "CODE/"), b"")
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "exported.pt2"
    torch.export.save(torch.export.export(Network().eval(), (torch.randn(2, 4),)), path)
    return path


def edit_program(edit: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    def apply(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        program = json.loads(content)
        edit(program)
        return json.dumps(program).encode()

    return apply


def hostile_programs(marker: Path) -> dict[str, Callable[[str, bytes], bytes | None]]:
    code = f"__import__('os').system('touch {marker}')"
    buffer = io.BytesIO()
    torch.save(payloads(marker)["os.system"], buffer)

    def symbol(program: dict[str, Any]) -> None:
        meta = program["graph_module"]["graph"]["tensor_values"]["x"]
        meta["sizes"][0] = {"as_expr": {"expr_str": code, "hint": {"as_int": 2}}}

    def guards(program: dict[str, Any]) -> None:
        program["guards_code"] = [code]

    def signature(program: dict[str, Any]) -> None:
        for call in program["graph_module"]["module_call_graph"]:
            if call["signature"]:
                call["signature"]["forward_arg_names"] = [f"x={code}"]

    def name(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][0]["name"] = f"linear\n{code}"

    def target(what: str) -> Callable[[dict[str, Any]], None]:
        def change(program: dict[str, Any]) -> None:
            node = program["graph_module"]["graph"]["nodes"][0]
            node["target"] = what
            node["inputs"] = [{"name": "a", "arg": {"as_string": f"touch {marker}"}, "kind": 1}]

        return change

    def weights(name: str, content: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return buffer.getvalue() if name.endswith("weight_0") else content
        config = json.loads(content)
        for entry in config["config"].values():
            entry["use_pickle"] = True
        return json.dumps(config).encode()

    def constants(name: str, content: bytes) -> bytes:
        if name.endswith("constants_config.json"):
            entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True,
                     "tensor_meta": None}  # fmt: skip
            return json.dumps({"config": {"c": entry}}).encode()
        return content

    def sample(name: str, content: bytes) -> bytes:
        return buffer.getvalue() if "sample_inputs" in name else content

    return {
        "size": edit_program(symbol), "guard": edit_program(guards),
        "argument name": edit_program(signature), "node name": edit_program(name),
        "os.system": edit_program(target("os.system")),
        "operator": edit_program(target("_operator.methodcaller")),
        "torch.ops": edit_program(target("torch.ops.aten.from_file.default")),
        "library": edit_program(target("torch.ops.load_library")),
        "pickled weight": weights, "opaque constant": constants, "sample inputs": sample,
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    ["size", "guard", "argument name", "node name", "os.system", "operator", "torch.ops",
     "library", "pickled weight", "opaque constant", "sample inputs"],
)  # fmt: skip
def test_hostile_exports_do_not_run(exported: Path, tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "marker"
    path = doctored(exported, tmp_path / "doctored.pt2", hostile_programs(marker)[kind])
    if kind == "opaque constant":
        with zipfile.ZipFile(path, "a") as archive:
            root = archive.namelist()[0].split("/")[0]
            archive.writestr(f"{root}/data/constants/opaque_obj_0",
                             pickle.dumps(payloads(marker)["os.system"]))  # fmt: skip
    with pytest.raises(UntrustedCheckpointError):
        load_checkpoint(path)
    if kind == "pickled weight":
        with pytest.raises(UntrustedCheckpointError, match="system"):
            load_checkpoint(path, model=Network)
    else:  # parts that are never looked at
        assert load_checkpoint(path, model=Network).parameters == 10
    assert not marker.exists()


@pytest.mark.parametrize(
    "target",
    ["torch.ops.aten.relu.__getattribute__", "torch.ops.aten.relu.__setattr__",
     "torch.ops.aten.relu.__getattr__"],
)  # fmt: skip
def test_overloads_of_an_export_are_not_looked_up(
    exported: Path, tmp_path: Path, target: str
) -> None:
    def change(program: dict[str, Any]) -> None:
        node = program["graph_module"]["graph"]["nodes"][0]
        node["target"] = target
        node["inputs"] = [{"name": "a", "arg": {"as_string": "__globals__"}, "kind": 1}]

    path = doctored(exported, tmp_path / "doctored.pt2", edit_program(change))
    assert CheckpointFile.open(path).tensors().parameters == 10
    assert load_checkpoint(path, model=Network).parameters == 10


@pytest.mark.parametrize("name", ["os.system", "eval", "getattr"])
def test_hostile_pickles_of_scripts_do_not_run(script: Path, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    hostile = pickle.dumps(payloads(marker)[name], protocol=2)
    path = doctored(
        script, tmp_path / "doctored.pt",
        lambda entry, content: hostile if entry.endswith("data.pkl") else content,
    )  # fmt: skip
    with pytest.raises(UntrustedCheckpointError):
        load_checkpoint(path, model=Network)
    with pytest.raises(UntrustedCheckpointError):
        CheckpointFile.open(path).tensors()
    assert not marker.exists()
