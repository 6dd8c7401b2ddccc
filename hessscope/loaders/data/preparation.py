"""Preparation of stored inputs: a subset, then scale, greyscale, resize, normalise; each stated.

The rule when nothing is asked for: **integer images are divided by 255, and nothing else is
done**. Floating-point inputs stay as they are, and integers that are no images (token ids,
tables: one or two dimensions) stay integers. Images come out as float32 (N, C, H, W).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import torch

from hessscope.errors import AssumptionWarning, DataError, OptionError
from hessscope.loaders.data.named_inputs import never_an_image
from hessscope.objective.data import fingerprint
from hessscope.objective.nesting import LEAVES, Nested, map_leaves
from hessscope.objective.rows import Rows
from hessscope.options.data import DataOptions

#: The step that says that nothing was done.
FLOATS_KEPT = "floats as they are"

Step: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

_CHANNELS = (1, 3, 4)
_CHUNK = 8192


def prepare(
    inputs: Nested,
    options: DataOptions,
    levels: int = 255,
    every_split: Callable[[], list[Nested]] | None = None,
) -> tuple[Nested, tuple[str, ...], tuple[str, ...]]:
    """Carry out the preprocessing.

    Args:
        inputs: stored inputs, examples first. Not written to.
        options: ``normalize``: "center", "standardize", "none" (not even divided by 255) or
            "mean/std"; ``resize``: bilinear with anti-aliasing, after the division by 255 (so that
            shrinking averages pixels instead of picking some); ``grayscale``: three channels to
            one, with the luma weights of ITU-R BT.601.
        levels: what integer images are divided by.
        every_split: gives the stored inputs that ``center`` and ``standardize`` take their
            statistics from; by default ``inputs``.

    Returns:
        The inputs; the steps in words; and what else tells results apart (for the fingerprint).

    Raises:
        OptionError: the options do not fit the inputs.
    """
    normalize = options.normalize
    if not isinstance(inputs, LEAVES):
        if options.resize or options.grayscale or normalize not in (None, "none"):
            raise OptionError(
                "`resize`, `grayscale` and `normalize` work on one tensor of inputs, and there are "
                "several here; prepare them in a file.py:factory."
            )
        done: list[str] = []

        def prepare_leaf(leaf: torch.Tensor) -> torch.Tensor:
            prepared, words, _ = prepare(leaf, options, levels)
            done.extend(words)
            return prepared

        if not isinstance(inputs, dict):
            return map_leaves(prepare_leaf, inputs), tuple(dict.fromkeys(done)), ()
        leaves = {
            key: value if never_an_image(key) else map_leaves(prepare_leaf, value)
            for key, value in inputs.items()
        }
        if any(map(never_an_image, inputs)):
            done.append("ids and masks as they are")
        return leaves, tuple(dict.fromkeys(done)), ()
    words, steps = plan(inputs, options, levels)
    prepared = _apply(steps, inputs)
    if normalize in (None, "none"):
        return prepared, words, ()
    if normalize in ("center", "standardize"):
        sources = every_split() if every_split else [inputs]
        mean, std, how = _statistics(sources, steps, normalize)
        extra: tuple[str, ...] = (fingerprint([("reference", tuple(sources))]),)
    else:
        mean, std, how = _given(prepared, normalize)
        extra = ()

    def normalized(x: torch.Tensor) -> torch.Tensor:
        return x.sub(mean).div_(std)

    result = prepared.map(normalized) if isinstance(prepared, Rows) else normalized(prepared)
    return result, (*words, how), extra


def plan(raw: Any, options: DataOptions, levels: int) -> tuple[tuple[str, ...], list[Step]]:
    """Decide, from type, shape and options, what to do to stored inputs: in words, and as steps.

    Raises:
        OptionError: resize or grayscale for what is no image, or has no three channels.
    """
    normalize, resize, grayscale = options.normalize, options.resize, options.grayscale
    integer = not raw.is_floating_point()
    image = integer and _is_integer_image(raw)
    if (resize or grayscale) and (raw.ndim not in (3, 4) or (integer and not image)):
        raise OptionError(
            "`resize` and `grayscale` need images, (N, H, W) or (N, C, H, W); the inputs are "
            f"{_described(raw)}. Flattened images can be reshaped in a file.py:factory."
        )
    done: list[tuple[str, Step | None]] = []
    channels = raw.shape[1] if raw.ndim == 4 else 1
    # Floats are only laid out anew where a step needs channels; otherwise they stay untouched.
    if image or resize or grayscale:
        if raw.ndim == 3:
            done.append(("", lambda x: x[:, None]))
        elif raw.ndim == 4 and raw.shape[3] in _CHANNELS and channels not in _CHANNELS:
            moved = "channels moved first, (N, H, W, C) to (N, C, H, W)"
            done.append((moved, lambda x: x.permute(0, 3, 1, 2)))
            channels = raw.shape[3]
    if image or (integer and normalize is not None):
        done.append(("", lambda x: x.to(torch.float32)))
    if image and normalize != "none":
        done.append((f"pixels / {levels}", lambda x: x / levels))
    elif image:
        done.append((f"pixels not scaled (integers 0 to {levels})", None))
    elif integer and normalize is None:
        done.append((_integers_kept(raw), None))
    else:
        done.append(("integers as floats, not scaled" if integer else FLOATS_KEPT, None))
    if grayscale and channels not in (1, 3):
        raise OptionError(f"`grayscale` needs 3 channels; the inputs are {_described(raw)}.")
    if grayscale and channels == 1:
        done.append(("grey already (one channel)", None))
    elif grayscale:
        done.append(("grey (0.299 R + 0.587 G + 0.114 B)", _grey))
    if resize:
        rows, _, columns = resize.partition("x")
        size = [int(rows), int(columns or rows)]
        resized = f"resized to {size[0]}x{size[1]} (bilinear, anti-aliased)"
        done.append((resized, lambda x: _resized(x, size)))
    return tuple(words for words, _ in done if words), [step for _, step in done if step]


def _apply(steps: Sequence[Step], raw: Any) -> Any:
    """Return the inputs after the steps; ``raw`` itself where there is nothing to do."""
    if not steps:
        return raw

    def run(chunk: torch.Tensor) -> torch.Tensor:
        return reduce(lambda x, step: step(x), steps, chunk).contiguous()

    if isinstance(raw, Rows):
        return raw.map(run)
    first = run(raw[:_CHUNK])
    if raw.shape[0] <= _CHUNK:
        return first
    # Filled piece by piece: the float copy of the whole set exists once, not twice.
    out = first.new_empty((raw.shape[0], *first.shape[1:]))
    out[:_CHUNK] = first
    for start in range(_CHUNK, raw.shape[0], _CHUNK):
        out[start : start + _CHUNK] = run(raw[start : start + _CHUNK])
    return out


def _grey(x: torch.Tensor) -> torch.Tensor:
    """Luma of ITU-R BT.601, as Pillow and MATLAB use it."""
    red, green, blue = x.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def _resized(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    return torch.nn.functional.interpolate(
        wide, size=size, mode="bilinear", align_corners=False, antialias=True
    ).to(x.dtype)


def _is_integer_image(raw: torch.Tensor) -> bool:
    if raw.dtype == torch.bool or raw.ndim < 3:
        return False
    if raw.dtype == torch.uint8:
        return True
    # Wider integers are images where they could have been stored as bytes.
    low, high = _extent(raw) if raw.ndim in (3, 4) else (-1, 0)
    return low >= 0 and high <= 255


def _extent(raw: Any) -> tuple[int, int]:
    """The smallest and the largest integer."""
    extents = [(int(part.min()), int(part.max())) for part in raw.split(_CHUNK)]
    return min(low for low, _ in extents), max(high for _, high in extents)


def _integers_kept(raw: torch.Tensor) -> str:
    if raw.dtype == torch.uint8:
        warnings.warn(
            f"the inputs are bytes of shape {tuple(raw.shape)}: they are taken as integers such "
            "as token ids. If they are flattened pixels, give `normalize=0/255`.",
            AssumptionWarning,
            stacklevel=2,
        )
    if raw.ndim >= 3 and raw.dtype != torch.bool:
        low, high = _extent(raw)
        return f"integers as they are (from {low} to {high}, not 8-bit images)"
    return "integers as they are (not images)"


def _given(x: torch.Tensor, normalize: str) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Mean and deviation that the user gave, for all inputs or one per channel or feature."""
    values = [tuple(map(float, part.split(","))) for part in normalize.split("/")]
    count = len(values[0])
    channels = x.shape[1] if x.ndim in (2, 4) else 1
    if count not in (1, channels):
        noun = "features" if x.ndim == 2 else "channels"
        raise OptionError(
            f"`normalize` has {count} means and deviations, but the inputs have {channels} {noun} "
            f"({_described(x)}); give 1 or {channels}."
        )
    shape = (1, count) + (1,) * (x.ndim - 2) if x.ndim >= 2 else (1,)
    mean, std = (torch.tensor(part, dtype=x.dtype).view(shape) for part in values)
    said = [str(part[0] if count == 1 else part) for part in values]
    return mean, std, f"mean {said[0]}, std {said[1]}"


def _statistics(
    sources: list[Any], steps: Sequence[Step], kind: str
) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Mean and deviation in float64 over all of ``sources`` as they are after the steps."""
    count = sum(part.shape[0] for part in sources)

    def total(function: Step) -> torch.Tensor:
        chunks = (chunk for part in sources for chunk in part.split(_CHUNK))
        return sum((function(_apply(steps, chunk)) for chunk in chunks), torch.zeros(()).double())

    mean = total(lambda x: x.sum(0, keepdim=True, dtype=torch.float64)) / count
    example = _apply(steps, sources[0][:1])
    dtype = example.dtype
    if kind == "center":
        unit = "pixel" if example.ndim >= 3 else "feature"
        words = f"minus the per-{unit} mean of all {count:,} examples"
        return mean.to(dtype), torch.ones((), dtype=dtype), words
    # Images share one mean and deviation a channel; other inputs have one a feature.
    over = (2, 3) if example.ndim == 4 else ()

    def averaged(x: torch.Tensor) -> torch.Tensor:
        return x.mean(over, keepdim=True) if over else x

    mean = averaged(mean)
    squares = total(lambda x: averaged((x.double() - mean).square()).sum(0, keepdim=True))
    std = (squares / count).sqrt()
    # What never varies has a deviation of rounding size, not always of 0.
    fixed = std <= 1e-9 * mean.abs()
    constant = int(fixed.sum())
    std = torch.where(fixed, torch.ones_like(std), std)
    words = f"standardized per {'channel' if over else 'feature'} over all {count:,} examples"
    if constant:
        words += f" ({constant:,} constant, only centred)"
    return mean.to(dtype), std.to(dtype), words


def _described(x: torch.Tensor) -> str:
    return f"{str(x.dtype).split('.')[-1]} of shape {tuple(x.shape)}"


def choose(
    targets: Nested | None, available: int, count: int, seed: int, *, others: bool = False
) -> torch.Tensor:
    """Return ``count`` of ``available`` indices, ascending, or the ``others``.

    With class labels, every class gets its share (rounded by largest remainders, so that the
    shares add up to ``count``); otherwise the choice is uniform. The same seed gives the same.

    Raises:
        DataError: there are fewer than ``count``.
    """
    if count > available:
        raise DataError(
            f"a subset of {count:,} was asked for, but there are only {available:,} examples."
        )
    rng = np.random.default_rng(seed)
    if is_stratified(targets):
        assert isinstance(targets, torch.Tensor)
        labels = targets.numpy()
        classes, sizes = np.unique(labels, return_counts=True)
        shares = sizes * (count / available)
        quota = np.floor(shares + 1e-9).astype(np.int64)
        order = np.argsort(-(shares - quota), kind="stable")
        quota[order[: count - int(quota.sum())]] += 1
        drawn = [
            rng.permutation(np.flatnonzero(labels == label))[:share]
            for label, share in zip(classes, quota, strict=True)
        ]
    else:
        drawn = [rng.permutation(available)[:count]]
    chosen = np.isin(np.arange(available), np.concatenate(drawn))
    return torch.from_numpy(np.flatnonzero(chosen != others))


def is_stratified(targets: Nested | None) -> bool:
    """Whether the targets are class labels: integers, one per example."""
    return (
        isinstance(targets, torch.Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    )
