"""What becomes of damaged files: thousands of mutants of every format that is read.

    PYTHONPATH=tests python -m studies.mutants ROWS.csv [--each 500]

Every mutant has one or a few bits flipped, bytes cut off, inserted, overwritten or moved, lengths
changed, or an entry of its archive twice, and is opened in a process of its own kind with a limit
of time and memory. It must open with the same content, or end in an error of hessscope's own; with
other numbers only where the format carries no checksum and nothing but values was changed. Rows
are appended to ROWS.csv: the same command resumes. It prints a table of outcomes by format.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import multiprocessing
import resource
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from torch import nn

import hessscope as hs
from hessscope import records
from hessscope.errors import HessscopeError
from hessscope.loaders import CheckpointFile, load_checkpoint, load_data
from hessscope.loaders.data.named.mnist import read_idx
from hessscope.objective import Dataset

SECONDS = 20
"""Limit of time for one mutant."""

MEMORY = 3 << 30
"""Limit of memory, in bytes beyond what the program takes."""

OUTCOMES = ("same", "refused", "other values", "other", "unexpected", "hang")


class Network(nn.Module):
    """What the checkpoints hold."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        # Numbers that are found again in the file's bytes.
        self.norm.num_batches_tracked.fill_(1234567890123)
        for value in (self.norm.weight, self.norm.bias, *self.norm.buffers()):
            if value.is_floating_point():
                value.data.uniform_(0.5, 1.5)
        self.out = nn.Linear(18, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.norm(self.conv(x))).flatten(1))


@dataclass(frozen=True)
class Format:
    """How a file is made and opened, and whether it carries checksums."""

    name: str
    suffix: str
    checked: bool
    make: Callable[[Path], None]
    read: Callable[[Path], Any]


def _weights(path: Path) -> Any:
    return load_checkpoint(path, model=Network).model.state_dict()


def _tensors(path: Path) -> Any:
    model = CheckpointFile.open(path).tensors().model
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _data(path: Path) -> Any:
    data = load_data(path)
    assert isinstance(data, Dataset)
    return {"inputs": data.inputs, "targets": data.targets}


def _record(path: Path) -> Any:
    record = hs.load_record(path)
    return {**record.arrays, "attributes": repr(sorted(record.attributes.items()))}


def _saved(path: Path) -> Any:
    found = records.Store(path.parent, 0.0).load(path.stem)
    if found is None:  # it is begun anew
        raise HessscopeError("nothing is saved")
    return found


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {"inputs": rng.normal(size=(20, 1, 5, 5)), "targets": rng.integers(0, 3, 20)}


def _save(**options: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        content = {"state_dict": Network().state_dict(), "epoch": 3, "accuracy": np.float64(0.5)}
        torch.save(content, path, **options)

    return make


def _safetensors(path: Path) -> None:
    from safetensors.torch import save_file

    save_file(Network().state_dict(), path, {"epoch": "3"})


def _script(path: Path) -> None:
    torch.jit.script(Network().eval()).save(str(path))


def _export(path: Path) -> None:
    torch.export.save(torch.export.export(Network().eval(), (torch.randn(2, 1, 5, 5),)), path)


def _h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, value in _arrays().items():
            file[name] = value


def _idx(path: Path) -> None:
    values = np.random.default_rng(4).integers(0, 256, (30, 8, 8)).astype(np.uint8)
    content = b"\0\0\x08\x03" + struct.pack(">iii", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _write_record(path: Path) -> None:
    attributes = {"n": 30, "options": {"seed": 0, "name": "exact"}}
    arrays = {"eigenvalues": np.linspace(-1, 1, 30), "counts": np.arange(8)}
    records.write_record(records.Record("spectrum", arrays, attributes), path)


def _write_saved(path: Path) -> None:
    folder = records.Store(path.parent, 0.0)
    folder.offer(path.stem, lambda: {"rows": np.linspace(0, 1, 200), "done": np.arange(5)})


FORMATS = (
    Format("zip checkpoint", ".pt", True, _save(), _weights),
    Format("zip checkpoint, inspected", ".pt", True, _save(), _tensors),
    Format("legacy checkpoint", ".pth", False,
           _save(_use_new_zipfile_serialization=False), _weights),
    Format("safetensors", ".safetensors", False, _safetensors, _weights),
    Format("TorchScript", ".pt", True, _script, _weights),
    Format("torch.export", ".pt2", True, _export, _weights),
    Format("npz data", ".npz", True, lambda path: np.savez(path, **_arrays()), _data),
    Format("npz data, compressed", ".npz", True,
           lambda path: np.savez_compressed(path, **_arrays()), _data),
    Format("torch data", ".pt", True,
           lambda path: torch.save({k: torch.tensor(v) for k, v in _arrays().items()}, path),
           _data),
    Format("HDF5 data", ".h5", False, _h5, _data),
    Format("gzipped IDX", ".gz", True, _idx, read_idx),
    Format("IDX", ".idx", False, _idx, read_idx),
    Format("record", ".h5", True, _write_record, _record),
    Format("saved state", ".npz", True, _write_saved, _saved),
)  # fmt: skip


def mutate(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """A mutant of the bytes, and what was done to them."""
    kinds = ("flip", "flips", "cut", "insert", "overwrite", "header", "length", "swap", "entry",
             "zeros", "name")  # fmt: skip
    kind = str(rng.choice(kinds))
    data, n = bytearray(content), len(content)
    at = int(rng.integers(n))
    if kind == "flip":
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == "flips":
        for place in rng.integers(n, size=8):
            data[int(place)] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = rng.bytes(int(rng.integers(1, 40)))
    elif kind == "overwrite":
        data[at : at + 16] = rng.bytes(min(16, n - at))
    elif kind == "header":
        place = int(rng.integers(min(n, 300)))
        data[place if rng.random() < 0.5 else n - 1 - place] = int(rng.integers(256))
    elif kind == "length":
        number = struct.pack("<Q", int(rng.choice([0, 1, 255, 65536, 2**31, 2**40, 2**63, 7])))
        size = int(rng.choice([2, 4, 8]))
        data[at : at + size] = number[:size]
    elif kind == "swap":
        other, size = int(rng.integers(n)), int(rng.integers(1, 65))
        data[at : at + size], data[other : other + size] = (
            data[other : other + size], data[at : at + size],
        )  # fmt: skip
    elif kind == "zeros":
        data[at : at + 64] = bytes(min(64, n - at))
    elif kind == "name":  # a byte of text becomes another letter
        text = [i for i in range(n) if chr(data[i]).isalpha() and data[i] < 128]
        data[int(rng.choice(text))] = int(rng.choice(list(b"aeiou019_FIU")))
    elif kind == "entry":
        return _with_other_entry(content, rng)
    return kind, bytes(data)


def _with_other_entry(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """An archive with an entry twice or left out; of other formats a part is doubled."""
    buffer = io.BytesIO(content)
    if not zipfile.is_zipfile(buffer):
        at = int(rng.integers(len(content)))
        return "doubled", content[: at + 100] + content[at:]
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        entries = [(name, old.read(name)) for name in old.namelist()]
    chosen = int(rng.integers(len(entries)))
    name, inner = entries[chosen]
    if rng.random() < 0.5:
        entries.append((name, bytes(len(inner))))
        kind = "entry twice"
    else:
        del entries[chosen]
        kind = "entry missing"
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as new:
        warnings.simplefilter("ignore")
        for name, inner in entries:
            new.writestr(name, inner)
    return kind, out.getvalue()


def digest(found: Any) -> str:
    """Of the numbers with their names, shapes and types."""
    named = found if isinstance(found, dict) else {"": found}
    hashed = hashlib.sha256()
    for name in sorted(named):
        value = named[name]
        if isinstance(value, str):
            hashed.update(f"{name} {value}".encode())
            continue
        array = np.ascontiguousarray(value.detach() if isinstance(value, torch.Tensor) else value)
        hashed.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return hashed.hexdigest()


def with_values_of(mutant: bytes, content: bytes, found: Any) -> bytes:
    """The mutant with the bytes of the file's numbers put back; what else was changed is left."""
    data = bytearray(mutant)
    for value in found.values() if isinstance(found, dict) else [found]:
        array = value.detach() if isinstance(value, torch.Tensor) else value
        part = np.ascontiguousarray(array).tobytes()
        at = content.find(part)
        if len(mutant) == len(content) and len(part) >= 8 and at >= 0:
            data[at : at + len(part)] = part
    return bytes(data)


def outcome(form: Format, content: bytes, folder: Path, truth: str) -> tuple[str, str]:
    """What becomes of a mutant, and the message."""
    path = folder / f"mutant{form.suffix}"
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ("same" if digest(form.read(path)) == truth else "other"), ""
    except HessscopeError as error:
        return "refused", f"{type(error).__name__}: {error}"
    except Exception as error:
        return "unexpected", f"{type(error).__name__}: {error}"


def original(form: Format, folder: Path) -> tuple[bytes, Any]:
    """The file as it was written, and its numbers."""
    torch.manual_seed(0)
    path = folder / f"mutant{form.suffix}"
    path.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        form.make(path)
        return path.read_bytes(), form.read(path)


def study(form: Format, numbers: range) -> list[dict[str, Any]]:
    """A row for each mutant of a format, by its number, in this process."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        content, written = original(form, Path(name))
        truth = digest(written)
        for number in numbers:
            rng = np.random.default_rng([number, FORMATS.index(form)])
            kind, mutant = mutate(content, rng)
            begin = time.perf_counter()
            result, said = outcome(form, mutant, Path(name), truth)
            seconds = time.perf_counter() - begin
            if seconds > SECONDS:
                result = "hang"
            elif result == "other" and not form.checked:
                mended = with_values_of(mutant, content, written)
                if outcome(form, mended, Path(name), truth)[0] != "other":
                    result = "other values"
            rows.append({"format": form.name, "number": number, "kind": kind, "outcome": result,
                         "seconds": round(seconds, 3), "said": said[:300]})  # fmt: skip
    return rows


def _limited(index: int, numbers: range, pipe: Any) -> None:
    torch.set_num_threads(1)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    pipe.send(study(FORMATS[index], numbers))


def guarded(form: Format, numbers: range) -> list[dict[str, Any]]:
    """The same in a process with limits; what kills or stalls it is found one by one."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_limited, args=(FORMATS.index(form), numbers, there))
    process.start()
    there.close()
    done: list[dict[str, Any]] | None = None
    if here.poll(60 + SECONDS * (1 + len(numbers) // 10)):
        with contextlib.suppress(EOFError):
            done = here.recv()
    process.kill()
    process.join()
    if done is not None:
        return done
    if len(numbers) == 1:
        return [{"format": form.name, "number": numbers[0], "kind": "", "outcome": "hang",
                 "seconds": SECONDS, "said": f"exit code {process.exitcode}"}]  # fmt: skip
    half = len(numbers) // 2
    return guarded(form, numbers[:half]) + guarded(form, numbers[half:])


def main() -> None:
    """Study what is missing, and print the table."""
    path = Path(sys.argv[1])
    each = int(sys.argv[sys.argv.index("--each") + 1]) if "--each" in sys.argv else 750
    rows = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["format", "number"])
    for form in FORMATS:
        begin = int((rows["format"] == form.name).sum())
        for start in range(begin, each, 50):
            found = pd.DataFrame(guarded(form, range(start, min(start + 50, each))))
            found.to_csv(path, mode="a", header=not path.exists(), index=False)
            print(f"{form.name}: {min(start + 50, each)} of {each}", file=sys.stderr)
    rows = pd.read_csv(path)
    table = rows.pivot_table(index="format", columns="outcome", values="number", aggfunc="count")
    print(table.reindex(columns=list(OUTCOMES)).fillna(0).astype(int).to_string())
    bad = rows[rows["outcome"].isin(["other", "unexpected", "hang"])]
    print(f"{len(rows)} mutants, {len(bad)} of them against the rules")
    print(bad.head(40).to_string())


if __name__ == "__main__":
    main()
