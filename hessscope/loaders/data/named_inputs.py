"""Named inputs as Hugging Face's tokenizers and models have them: labels, padding to one length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hessscope.errors import DataError
from hessscope.objective.losses import IGNORED
from hessscope.objective.nesting import LEAVES, Nested, as_tensors, concatenate
from hessscope.objective.rows import Rows, Which

_TOKENS, _MASK, _LABELS = "input_ids", "attention_mask", "labels"
#: What a model of Hugging Face takes first; one of them tells such a dict.
_MAIN = (_TOKENS, "pixel_values", "inputs_embeds", "input_values", "input_features")
_TARGETS = (_LABELS, "label", "label_ids")
#: What tokenizers and data sets keep beside the inputs, and no model takes.
_BESIDE = (
    *("idx", "id", "index", "length", "special_tokens_mask", "offset_mapping"),
    *("overflow_to_sample_mapping", "num_items_in_batch", "__index_level_0__"),
)
#: Sequences that can be made longer, and with what: none of it counts where the mask is 0.
_PADDING = {_TOKENS: 0, _MASK: 0, "token_type_ids": 0, "position_ids": 0, _LABELS: IGNORED}

Part = dict[str, torch.Tensor]


def is_named(value: object) -> bool:
    """Whether it is a dict of named inputs."""
    return isinstance(value, Mapping) and any(name in value for name in _MAIN)


def are_named(value: object) -> bool:
    """Whether it is a list of such dicts: batches, or examples."""
    return isinstance(value, list) and bool(value) and all(map(is_named, value))


def never_an_image(name: str) -> bool:
    """Whether integers of this name are numbers of tokens, positions or masks, in any shape."""
    return name.endswith(("_ids", "_mask", "_pos"))


def tensors(part: Mapping[str, Any], name: str) -> Part:
    """The numbers of a batch as tensors with the examples first; of one example, a batch of one.

    Raises:
        DataError: something else than numbers, or no array of numbers, stands for an input.
    """
    found = {str(key): _array(part[key], key, name) for key in part if key not in _BESIDE}
    named = [key for key in _TARGETS if found.get(key) is not None]
    if len(named) > 1:
        raise DataError(f"{name}: which are the labels, {' or '.join(named)}? Leave one out.")
    one = _is_example(found, named)
    return {
        _LABELS if key in named else key: as_tensors(value[None] if one else value, key)
        for key, value in found.items()
        if value is not None
    }


def _array(value: Any, key: str, name: str) -> Any:
    """Tensors and arrays as they are, lists as arrays; None for what has no numbers."""
    if isinstance(value, LEAVES):
        return value
    if isinstance(value, list) and any(isinstance(row, torch.Tensor) for row in value):
        raise DataError(
            f"{name}: {key} is a list of tensors, as torch's own collate function makes one of "
            'lists of numbers. Let the data set give tensors (datasets: with_format("torch")), or '
            "give the DataLoader a collate_fn, such as DataCollatorWithPadding."
        )
    array = np.asarray(value)
    if array.dtype.kind in "biufc":
        return array
    if value is not None and key in (*_MAIN, *_TARGETS):
        raise DataError(f"{name}: {key} has entries that are no numbers ({array.dtype}).")
    return None


def _is_example(found: Mapping[str, Any], labels: Sequence[str]) -> bool:
    """Whether it is one example and no batch, by its label, else by its first input."""
    tokens = found.get(_TOKENS)
    sizes = {_TOKENS: 1, "pixel_values": 3, "input_values": 1}
    main = next(key for key in _MAIN if found.get(key) is not None)
    if labels and found[labels[0]].ndim < 2 and (tokens is None or tokens.ndim > 1):
        return bool(found[labels[0]].ndim == 0)
    return bool(found[main].ndim == sizes.get(main, 2))


def pair(parts: Sequence[Mapping[str, Any]], name: str) -> tuple[tuple[Nested, Nested], list[str]]:
    """Join batches or examples, of different lengths where these can be padded.

    Args:
        parts: dicts of named inputs and labels.
        name: of the data, for messages.

    Returns:
        Inputs and targets, and notes of what was done. Targets are the labels; of tokens without
        labels they are the tokens themselves, −100 where the mask is 0; else None.

    Raises:
        DataError: names or shapes differ, or it cannot be told how to pad.
    """
    rows = [row for part in parts for row in _rows(part)]
    numbers = [tensors(row, name) for row in rows]
    notes = _left_out(rows, numbers)
    _check_names(numbers, name)
    joined, padded = _join(numbers, name)
    labels = joined.pop(_LABELS, None)
    notes = [f"inputs are {', '.join(joined)}", *notes, *padded]
    if labels is None and _TOKENS in joined:
        labels = _own_targets(joined[_TOKENS], joined.get(_MASK), name)
        notes.append(
            f"no labels: the targets are the {_TOKENS} themselves, for `loss=next_token`"
            + f", {IGNORED} where {_MASK} is 0" * (_MASK in joined)
        )
    return (joined, labels), notes


def _own_targets(tokens: Any, mask: Any, name: str) -> Nested:
    """The tokens that count."""
    if isinstance(tokens, Rows):

        def read(which: Which) -> torch.Tensor:
            masked = None if mask is None else mask[which]
            found: torch.Tensor = _own_targets(tokens[which], masked, name)
            return found

        return Rows(read, len(tokens), name)
    labels = tokens.to(torch.int64)
    return labels if mask is None else labels.where(mask != 0, IGNORED)


def _rows(part: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The batch itself; its examples where lists of different lengths stand in it."""
    uneven = any(
        isinstance(value, list) and len({np.shape(row)[:1] for row in value}) > 1
        for key, value in part.items()
        if key in _PADDING
    )
    if not uneven:
        yield part
        return
    lengths = {key: len(value) for key, value in part.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"parts of a batch have different numbers of examples: {lengths}.")
    for i in range(next(iter(lengths.values()))):
        yield {key: value[i] for key, value in part.items()}


def _left_out(rows: Iterable[Mapping[str, Any]], numbers: Iterable[Part]) -> list[str]:
    names = dict.fromkeys(
        str(key)
        for row, part in zip(rows, numbers, strict=True)
        for key in row
        if key not in part and key not in _TARGETS
    )
    return [f"left out, since no model takes it: {', '.join(names)}"] if names else []


def _check_names(parts: Sequence[Part], name: str) -> None:
    kinds = {frozenset(part) - {_MASK}: part for part in parts}
    if len(kinds) > 1:
        first, second, *_ = (", ".join(sorted(kind)) for kind in kinds)
        raise DataError(
            f"{name}: some batches have {first}, and others {second}: give all the same entries."
        )


def _join(parts: list[Part], name: str) -> tuple[Part, list[str]]:
    """One dict of all examples, and notes where some were padded."""
    masked = [part for part in parts if _MASK in part]
    shapes = {key: {part[key].shape[1:] for part in parts} for key in parts[0] if key != _MASK}
    uneven = [key for key, found in shapes.items() if len(found) > 1]
    if not uneven and len(masked) in (0, len(parts)):
        return {
            key: concatenate([part[key] for part in parts], f"{name}: {key} of batches")
            for key in parts[0]
        }, []
    for key in uneven:
        one, other, *_ = sorted(shapes[key])
        known = key in _PADDING and not parts[0][key].is_floating_point()
        if not known or any(part[key].ndim != 2 for part in parts):
            raise DataError(
                f"{name}: {key} has the shapes {tuple(one)} and {tuple(other)} in different "
                "batches, and it is not known how to fill up the smaller: give all one shape."
            )
        if any(part[key].shape != part[_TOKENS].shape for part in parts if _TOKENS in part):
            raise DataError(
                f"{name}: {key} varies in length, but not as {_TOKENS} does: give all one shape."
            )
    if _TOKENS not in parts[0]:
        raise DataError(f"{name}: {_MASK} is in some batches only, and there are no {_TOKENS}.")
    # Without a mask each token of a batch counts.
    whole = [
        {**part, _MASK: part.get(_MASK, torch.ones_like(part[_TOKENS], dtype=torch.int64))}
        for part in parts
    ]
    lengths = [part[_TOKENS].shape[1] for part in whole]
    values = {**_PADDING, _TOKENS: _pad_id(whole, name)}

    def filled(key: str, value: torch.Tensor) -> torch.Tensor:
        missing = max(lengths) - value.shape[1] if key in (*uneven, _MASK) else 0
        return torch.nn.functional.pad(value, (0, missing), value=values[key]) if missing else value

    joined = {key: torch.cat([filled(key, part[key]) for part in whole]) for key in whole[0]}
    said = ", ".join(f"{key} with {values[key]}" for key in joined if key in (*uneven, _MASK))
    return joined, [f"{min(lengths)} to {max(lengths)} tokens, padded to {max(lengths)}: {said}"]


def _pad_id(parts: Sequence[Part], name: str) -> int:
    """The token that stands where the mask is 0, else 0; refuse masks of another kind."""
    found: set[int] = set()
    for number, part in enumerate(parts):
        mask, tokens = part[_MASK], part[_TOKENS]
        if mask.shape != tokens.shape or bool((mask[:, 1:] > mask[:, :-1]).any()):
            raise DataError(
                f"{name}: batches have different lengths, so all are padded behind their ends, "
                f"and in batch {number + 1} {_MASK} is not ones and then zeros for each token. "
                "Padding in front moves the places of the tokens: pad all to one length yourself."
            )
        found |= set(tokens[mask == 0].unique().tolist())
    return found.pop() if len(found) == 1 else 0
