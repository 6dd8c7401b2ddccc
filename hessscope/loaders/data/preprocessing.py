"""From stored examples to what a network sees: scale, grey, resize, normalise; each step stated.

The rule when nothing is asked for: **integer images are divided by 255, and nothing else is
done**. Floating-point inputs stay as they are, and integers that are no images (token ids,
tables: one or two dimensions) stay integers. Images come out as float32 (N, C, H, W).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hessscope.errors import AssumptionWarning, OptionError
from hessscope.loaders.data.normalization import Normalization
from hessscope.objective.data import fingerprint
from hessscope.objective.nesting import Nested, map_leaves

#: The step that says that nothing was done.
FLOATS_KEPT = "floats as they are"

_CHANNELS = (1, 3, 4)
# Luma of ITU-R BT.601, as Pillow and MATLAB use it.
_GREY = (0.299, 0.587, 0.114)
_CHUNK = 8192


@dataclass(frozen=True)
class Recipe:
    """The steps for one tensor of inputs, in order; frozen, so that every split gets the same.

    Attributes:
        steps: the steps in words.
        divisor: pixels are divided by it (None: they are not).
        to_float: integers become float32.
        add_channel: (N, H, W) becomes (N, 1, H, W).
        channels_last: (N, H, W, C) becomes (N, C, H, W).
        grayscale: three channels become one.
        size: rows and columns to resize to.
    """

    steps: tuple[str, ...] = ()
    divisor: int | None = None
    to_float: bool = False
    add_channel: bool = False
    channels_last: bool = False
    grayscale: bool = False
    size: tuple[int, int] | None = None

    def apply(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the inputs after the steps; ``raw`` itself where there is nothing to do."""
        steps = (self.to_float, self.add_channel, self.channels_last, self.grayscale, self.size)
        if not any(steps):
            return raw
        first = self._apply(raw[:_CHUNK])
        if raw.shape[0] <= _CHUNK:
            return first
        # Filled piece by piece: the float copy of the whole set exists once, not twice.
        out = first.new_empty((raw.shape[0], *first.shape[1:]))
        out[:_CHUNK] = first
        for start in range(_CHUNK, raw.shape[0], _CHUNK):
            out[start : start + _CHUNK] = self._apply(raw[start : start + _CHUNK])
        return out

    def _apply(self, x: torch.Tensor) -> torch.Tensor:
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)
        if self.add_channel:
            x = x[:, None]
        if self.to_float:
            x = x.to(torch.float32)
        if self.divisor is not None:
            x = x / self.divisor
        if self.grayscale:
            red, green, blue = x.unbind(1)
            x = (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue)[:, None]
        if self.size is not None:
            wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
            x = torch.nn.functional.interpolate(
                wide, size=self.size, mode="bilinear", align_corners=False, antialias=True
            ).to(x.dtype)
        return x.contiguous()


def prepare(
    inputs: Nested,
    normalization: Normalization,
    size: tuple[int, int] | None = None,
    grayscale: bool = False,
    levels: int = 255,
    every_split: Callable[[], list[Nested]] | None = None,
) -> tuple[Nested, tuple[str, ...], tuple[str, ...]]:
    """Carry out the preprocessing.

    Args:
        inputs: stored inputs, examples first. Not written to.
        normalization: what ``parse_normalize`` gave.
        size: rows and columns to resize to, bilinear with anti-aliasing, after the division
            by 255 (so that shrinking averages pixels instead of picking some).
        grayscale: three channels to one, with the luma weights of ITU-R BT.601.
        levels: what integer images are divided by.
        every_split: gives the stored inputs that ``center`` and ``standardize`` take their
            statistics from; by default ``inputs``.

    Returns:
        The inputs; the steps in words; and what else tells results apart (for the fingerprint).

    Raises:
        OptionError: the inputs are not such that the options can be applied.
    """
    if not isinstance(inputs, torch.Tensor):
        if size is not None or grayscale or normalization.kind not in ("default", "none"):
            raise OptionError(
                "resize, grayscale and normalize work on one tensor of inputs, and there are "
                "several here; prepare them in a file.py:factory."
            )
        recipes: list[Recipe] = []

        def prepare_leaf(leaf: torch.Tensor) -> torch.Tensor:
            recipes.append(plan(leaf, normalization, None, False, levels))
            return recipes[-1].apply(leaf)

        out = map_leaves(prepare_leaf, inputs)
        steps = tuple(dict.fromkeys(step for recipe in recipes for step in recipe.steps))
        return out, steps, ()

    recipe = plan(inputs, normalization, size, grayscale, levels)
    prepared = recipe.apply(inputs)
    if normalization.kind == "fixed":
        mean, std, words = _fixed(prepared, normalization)
        extra: tuple[str, ...] = ()
    elif normalization.kind in ("center", "standardize"):
        sources = every_split() if every_split else [inputs]
        mean, std, words = _from_data(sources, recipe, normalization.kind)
        extra = (fingerprint([("reference", tuple(sources))]),)
    else:
        return prepared, recipe.steps, ()
    return prepared.sub(mean).div_(std), (*recipe.steps, words), extra


def plan(
    raw: torch.Tensor,
    normalization: Normalization,
    size: tuple[int, int] | None,
    grayscale: bool,
    levels: int = 255,
) -> Recipe:
    """Decide, from type, shape and options, what is to be done to a tensor of stored inputs.

    Raises:
        OptionError: resize or grayscale for what is no image, or has no three channels.
    """
    integer = not raw.is_floating_point()
    image = integer and _is_integer_image(raw)
    wants_image = size is not None or grayscale
    if wants_image and (raw.ndim not in (3, 4) or (integer and not image)):
        raise OptionError(
            f"resize and grayscale need images, (N, H, W) or (N, C, H, W); the inputs are "
            f"{_words(raw)}. Flattened images can be reshaped in a file.py:factory."
        )
    # Floats are only laid out anew where a step needs channels; otherwise they stay untouched.
    layout = image or wants_image
    add_channel = layout and raw.ndim == 3
    channels_last = (
        layout and raw.ndim == 4 and raw.shape[3] in _CHANNELS and raw.shape[1] not in _CHANNELS
    )
    steps: list[str] = []
    to_float = image or (integer and normalization.kind != "default")
    divisor = levels if image and normalization.kind != "none" else None
    if channels_last:
        steps.append("channels moved first, (N, H, W, C) to (N, C, H, W)")
    if divisor:
        steps.append(f"pixels / {divisor}")
    elif image:
        steps.append(f"pixels not scaled (integers 0 to {levels})")
    elif to_float:
        steps.append("integers as floats, not scaled")
    elif integer:
        steps.append(_integers_kept(raw))
    else:
        steps.append(FLOATS_KEPT)
    if grayscale:
        channels = 1 if add_channel else raw.shape[3 if channels_last else 1]
        if channels not in (1, 3):
            raise OptionError(f"grayscale needs 3 channels; the inputs are {_words(raw)}.")
        grayscale = channels == 3
        steps.append(
            "grey (0.299 R + 0.587 G + 0.114 B)" if grayscale else "grey already (one channel)"
        )
    if size is not None:
        steps.append(f"resized to {size[0]}x{size[1]} (bilinear, anti-aliased)")
    return Recipe(tuple(steps), divisor, to_float, add_channel, channels_last, grayscale, size)


def _is_integer_image(raw: torch.Tensor) -> bool:
    if raw.dtype == torch.bool or raw.ndim < 3:
        return False
    if raw.dtype == torch.uint8:
        return True
    # Wider integers are images where they could have been stored as bytes.
    return raw.ndim in (3, 4) and int(raw.min()) >= 0 and int(raw.max()) <= 255


def _integers_kept(raw: torch.Tensor) -> str:
    if raw.dtype == torch.uint8:
        warnings.warn(
            f"the inputs are bytes of shape {tuple(raw.shape)}: they are taken as integers such "
            "as token ids. If they are flattened pixels, say so with normalize '0/255'.",
            AssumptionWarning,
            stacklevel=2,
        )
    if raw.ndim >= 3 and raw.dtype != torch.bool:
        return f"integers as they are (from {int(raw.min())} to {int(raw.max())}, not 8-bit images)"
    return "integers as they are (not images)"


def _fixed(x: torch.Tensor, normalization: Normalization) -> tuple[torch.Tensor, torch.Tensor, str]:
    count = len(normalization.mean)
    channels = x.shape[1] if x.ndim in (2, 4) else 1
    if count not in (1, channels):
        noun = "features" if x.ndim == 2 else "channels"
        raise OptionError(
            f"normalize has {count} means and deviations, but the inputs have {channels} {noun} "
            f"({_words(x)}); give 1 or {channels}."
        )
    shape = (1, count) + (1,) * (x.ndim - 2) if x.ndim >= 2 else (1,)
    mean, std = (
        torch.tensor(values, dtype=x.dtype).view(shape)
        for values in (normalization.mean, normalization.std)
    )
    mean_words, std_words = (
        repr(values[0]) if count == 1 else "(" + ", ".join(map(repr, values)) + ")"
        for values in (normalization.mean, normalization.std)
    )
    return mean, std, f"mean {mean_words}, std {std_words}"


def _from_data(
    sources: list[torch.Tensor], recipe: Recipe, kind: str
) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Statistics in float64 over all of ``sources`` as they are after ``recipe``."""
    count = sum(part.shape[0] for part in sources)

    def chunks() -> list[torch.Tensor]:
        return [chunk for part in sources for chunk in part.split(_CHUNK)]

    total: torch.Tensor | float = 0.0
    for chunk in chunks():
        prepared = recipe.apply(chunk)
        total = total + prepared.sum(0, keepdim=True, dtype=torch.float64)
    assert isinstance(total, torch.Tensor)
    mean, dtype = total / count, prepared.dtype
    if kind == "center":
        unit = "pixel" if prepared.ndim >= 3 else "feature"
        words = f"minus the per-{unit} mean of all {count:,} examples"
        return mean.to(dtype), torch.ones((), dtype=dtype), words
    # Images share one mean and deviation a channel; other inputs have one a feature.
    over = (2, 3) if prepared.ndim == 4 else ()
    if over:
        mean = mean.mean(over, keepdim=True)
    variance: torch.Tensor | float = 0.0
    for chunk in chunks():
        squares = (recipe.apply(chunk).double() - mean).square()
        squares = squares.mean(over, keepdim=True) if over else squares
        variance = variance + squares.sum(0, keepdim=True)
    assert isinstance(variance, torch.Tensor)
    std = (variance / count).sqrt()
    # What never varies has a deviation of rounding size, not always of 0.
    fixed = std <= 1e-9 * mean.abs()
    constant = int(fixed.sum())
    std = torch.where(fixed, torch.ones_like(std), std)
    words = f"standardized per {'channel' if over else 'feature'} over all {count:,} examples"
    if constant:
        words += f" ({constant:,} constant, only centred)"
    return mean.to(dtype), std.to(dtype), words


def _words(x: torch.Tensor) -> str:
    return f"{str(x.dtype).split('.')[-1]} of shape {tuple(x.shape)}"
