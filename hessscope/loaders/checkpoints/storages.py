"""New numbers in a file of ``torch.save``, with everything else in it kept as it is.

Such a file is a pickle that refers to its tensors' memory by keys, and the memory itself. Only the
memory is replaced, and in the pickle the names of its data types. Nothing is unpickled or pickled,
so whatever else the file holds (optimiser, hyper-parameters, objects of any class) stays the same.
"""

from __future__ import annotations

import io
import pickletools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

#: Bytes of a number, by the name under which pickles know the memory of its data type.
_SIZES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2,
    "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1,
    "BoolStorage": 1, "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
}  # fmt: skip
_NAMES = {
    torch.float64: "DoubleStorage",
    torch.float32: "FloatStorage",
    torch.float16: "HalfStorage",
    torch.bfloat16: "BFloat16Storage",
}
_PUTS = ("BINPUT", "LONG_BINPUT")
_GETS = ("BINGET", "LONG_BINGET")
# Records that torch's writer makes by itself.
_OF_THE_WRITER = ("version", ".data/serialization_id")


class NotRewritableError(Exception):
    """The file has a form that cannot be rewritten; the message says which."""


@dataclass(frozen=True)
class _Operation:
    """One operation of a pickle with the bytes that it takes."""

    name: str
    argument: object
    content: bytes


@dataclass(frozen=True)
class _Mention:
    """A reference to a storage: its key, its type's name, and the operation that names the type."""

    key: str
    kind: str
    operation: int


def storage_keys(path: Path, *, zipped: bool) -> list[str]:
    """Keys of the storages in the order of their first mention, which is that of loading.

    Raises:
        NotRewritableError: the pickle is of another form than ``torch.save`` writes.
    """
    pickled = _read_zip(path)[1] if zipped else _read_legacy(path)[1]
    return list(dict.fromkeys(mention.key for mention in _mentions(_operations(pickled))))


def with_storages(path: Path, new: Mapping[str, torch.Tensor], *, zipped: bool) -> bytes:
    """Give the file's bytes with the memory of some storages replaced.

    Args:
        path: the checkpoint.
        new: by key the whole storage, one-dimensional, in the type in which it is to be written.
        zipped: whether it is of the zip format, and not of the one before torch 1.6.

    Raises:
        NotRewritableError: the pickle is of another form than ``torch.save`` writes.
    """
    if sys.byteorder != "little":
        raise NotRewritableError("this machine's byte order is not that of the file")
    strange = {str(vector.dtype) for vector in new.values() if vector.dtype not in _NAMES}
    if strange:
        raise NotRewritableError(f"its weights are of type {', '.join(sorted(strange))}")
    memory = {k: v.contiguous().view(torch.uint8).numpy().tobytes() for k, v in new.items()}
    kinds = {key: _NAMES[vector.dtype] for key, vector in new.items()}
    if zipped:
        records, pickled = _read_zip(path)
        return _write_zip(records, _renamed(pickled, kinds), memory)
    before, pickled, after = _read_legacy(path)
    found = {mention.key: mention.kind for mention in _mentions(_operations(pickled))}
    return before + _renamed(pickled, kinds) + _renewed(after, found, memory)


def is_as_long_as_it_says(path: Path) -> bool:
    """Whether a file of the format before torch 1.6 ends with its last number.

    True also for one of another form than ``torch.save`` writes, of which that is not known.
    """
    try:
        _, pickled, after = _read_legacy(path)
        kinds = {mention.key: mention.kind for mention in _mentions(_operations(pickled))}
        return not _parts(after, kinds)[1]
    except (NotRewritableError, ValueError, KeyError):
        return True


def _operations(pickled: bytes) -> list[_Operation]:
    """The operations of one pickle."""
    stream = io.BytesIO(pickled)
    marks = [(code.name, argument, at) for code, argument, at in pickletools.genops(stream)]
    ends = [at for _, _, at in marks[1:]] + [stream.tell()]
    return [
        _Operation(name, argument, pickled[at or 0 : end])
        for (name, argument, at), end in zip(marks, ends, strict=True)
    ]


def _mentions(operations: list[_Operation]) -> Iterator[_Mention]:
    """Every ``("storage", type, key, location, size)`` that is taken as a reference to memory."""
    if operations[0].name != "PROTO" or operations[0].argument != 2:
        raise NotRewritableError("it is not pickled by protocol 2, torch's own")
    memo: dict[object, object] = {}
    pushed: list[tuple[object, int]] = []  # values since the last mark, and where they came from
    for i, operation in enumerate(operations):
        if operation.name == "MARK":
            pushed = []
        elif operation.name in _PUTS:
            memo[operation.argument] = pushed[-1][0] if pushed else None
        elif operation.name in _GETS:
            pushed.append((memo.get(operation.argument), i))
        elif operation.name == "BINPERSID":
            yield _mention(pushed)
        elif operation.name != "TUPLE":
            pushed.append((operation.argument, i))


def _mention(pushed: list[tuple[object, int]]) -> _Mention:
    values = [value for value, _ in pushed]
    if len(values) in (5, 6) and values[0] == "storage" and (len(values) == 5 or not values[5]):
        kind = str(values[1]).removeprefix("torch ")
        if kind in _SIZES and isinstance(values[2], str):
            return _Mention(values[2], kind, pushed[1][1])
    raise NotRewritableError("it refers to its tensors in a way that torch.save does not")


def _renamed(pickled: bytes, kinds: Mapping[str, str]) -> bytes:
    """The pickle with other storage types.

    A type is named in full once and by its place in the memo from then on. Here each mention
    names it in full, and none goes to the memo.
    """
    operations = _operations(pickled)
    replaced = {
        mention.operation: b"ctorch\n%s\n" % kinds.get(mention.key, mention.kind).encode()
        for mention in _mentions(operations)
    }
    forgotten = {
        i + 1 for i in replaced
        if operations[i].name not in _GETS and operations[i + 1].name in _PUTS
    }  # fmt: skip
    places = {operations[i].argument for i in forgotten}
    for i, operation in enumerate(operations):
        if i not in replaced and operation.name in _GETS and operation.argument in places:
            raise NotRewritableError("it uses the types of its storages elsewhere")
    return b"".join(
        replaced.get(i, b"" if i in forgotten else operation.content)
        for i, operation in enumerate(operations)
    )


def _read_zip(path: Path) -> tuple[dict[str, bytes], bytes]:
    """All records of the archive, and its pickle."""
    reader = torch._C.PyTorchFileReader(str(path))
    records = {name: bytes(reader.get_record(name)) for name in reader.get_all_records()}
    if records.get("byteorder", b"little") != b"little":
        raise NotRewritableError("its byte order is not that of this machine")
    return records, records["data.pkl"]


def _write_zip(records: Mapping[str, bytes], pickled: bytes, memory: Mapping[str, bytes]) -> bytes:
    new = {"data.pkl": pickled, **{f"data/{key}": content for key, content in memory.items()}}
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for name, old in records.items():
        if name not in _OF_THE_WRITER:
            content = new.get(name, old)
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return buffer.getvalue()


def _read_legacy(path: Path) -> tuple[bytes, bytes, bytes]:
    """What is before the pickle of the content (three small ones), that pickle, and the rest."""
    whole = path.read_bytes()
    stream = io.BytesIO(whole)
    ends = []
    for _ in range(4):
        for _operation in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    return whole[: ends[2]], whole[ends[2] : ends[3]], whole[ends[3] :]


def _renewed(after: bytes, kinds: Mapping[str, str], memory: Mapping[str, bytes]) -> bytes:
    """The list of keys, and for each of them a number of elements and the memory."""
    parts, rest = _parts(after, kinds)
    if rest:
        raise NotRewritableError("there is more in it than torch.save writes")
    named = [part for key, count, old in parts for part in (count, memory.get(key, old))]
    return b"".join([after[: len(after) - sum(map(_length, parts))], *named])


def _parts(after: bytes, kinds: Mapping[str, str]) -> tuple[list[tuple[str, bytes, bytes]], bytes]:
    """By key a number of elements and the memory; and what comes after the last of them."""
    stream = io.BytesIO(after)
    keys = [a for code, a, _ in pickletools.genops(stream) if code.name == "BINUNICODE"]
    parts = []
    for key in map(str, keys):
        count = stream.read(8)
        old = stream.read(int.from_bytes(count, "little") * _SIZES[kinds[key]])
        parts.append((key, count, old))
    return parts, stream.read()


def _length(part: tuple[str, bytes, bytes]) -> int:
    return len(part[1]) + len(part[2])
