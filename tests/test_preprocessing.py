"""Scaling, layout, grey, resizing, normalising; options that cannot be parsed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hessscope.errors import AssumptionWarning, OptionError, UnknownNameError
from hessscope.loaders.data import preparation
from hessscope.loaders.data.preparation import choose
from hessscope.objective.data import fingerprint
from hessscope.options.data import DataOptions


def prepare(raw, normalize=None, every_split=None, **options):
    asked = DataOptions(normalize=normalize, **options)
    return preparation.prepare(raw, asked, every_split=every_split)


def images(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def test_integer_images_are_divided_by_255_and_nothing_else():
    raw = images(5, 4, 6)
    out, steps, _ = prepare(raw)
    assert out.shape == (5, 1, 4, 6)
    assert out.dtype == torch.float32
    assert torch.equal(out[:, 0], raw.float() / 255)
    assert steps == ("pixels / 255",)


def test_wider_integers_that_fit_a_byte_are_images_too():
    raw = images(5, 3, 4, 6).long()
    out, steps, _ = prepare(raw)
    assert torch.equal(out, raw.float() / 255)
    assert steps == ("pixels / 255",)


def test_wide_integers_are_kept_and_it_is_said():
    raw = images(5, 3, 4, 6).long() * 100
    out, steps, _ = prepare(raw)
    assert out is raw
    assert "not 8-bit images" in steps[0]


def test_token_ids_stay_integers():
    ids = torch.arange(12).reshape(3, 4)
    out, steps, _ = prepare(ids)
    assert out is ids
    assert steps == ("integers as they are (not images)",)


def test_flat_bytes_are_ambiguous_and_warned_about():
    raw = images(5, 24)
    with pytest.warns(AssumptionWarning, match="0/255"):
        out, _, _ = prepare(raw)
    assert out is raw
    out, _, _ = prepare(raw, "0/255")
    assert torch.equal(out, raw.float() / 255)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_floats_are_taken_as_they_are(dtype):
    x = torch.randn(5, 4, 6).to(dtype)
    out, steps, _ = prepare(x)
    assert out is x
    assert steps == ("floats as they are",)


def test_channels_last_are_moved_first():
    raw = images(5, 8, 9, 3)
    out, steps, _ = prepare(raw)
    assert torch.equal(out, raw.permute(0, 3, 1, 2).float() / 255)
    assert steps[0].startswith("channels moved first")


def test_grey_is_itu_r_601_luma():
    raw = images(5, 3, 4, 6)
    out, steps, _ = prepare(raw, grayscale=True)
    x = raw.double() / 255
    expected = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    assert out.shape == (5, 1, 4, 6)
    torch.testing.assert_close(out[:, 0].double(), expected, rtol=0, atol=1e-6)
    assert "0.587 G" in steps[-1]
    assert prepare(images(5, 4, 6), grayscale=True)[1][-1].startswith("grey already")


def test_resize_is_anti_aliased():
    # One bright column of four: shrinking by four must average it in, not pick or skip it.
    raw = torch.zeros(1, 8, 8, dtype=torch.uint8)
    raw[:, :, 0::4] = 255
    out, steps, _ = prepare(raw, resize="2x2")
    assert out.shape == (1, 1, 2, 2)
    torch.testing.assert_close(out.mean(), torch.tensor(0.25), atol=0.06, rtol=0)
    assert out.std() < 0.1
    assert "resized to 2x2" in steps[-1]
    assert prepare(raw, resize="2x3")[0].shape == (1, 1, 2, 3)


def test_resize_keeps_the_precision_of_floats():
    x = torch.rand(3, 2, 8, 8, dtype=torch.float64)
    out, _, _ = prepare(x, resize="4x4")
    assert out.dtype == torch.float64


def test_long_inputs_are_worked_through_in_pieces():
    raw = images(8195, 2, 2)
    out, _, _ = prepare(raw)
    assert torch.equal(out[:, 0], raw.float() / 255)


def test_mean_and_std_come_after_the_division():
    raw = images(5, 3, 4, 6)
    out, steps, _ = prepare(raw, "0.485,0.456,0.406/0.229,0.224,0.225")
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    assert torch.equal(out, (raw.float() / 255 - mean) / std)
    assert steps[-1] == "mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225)"


def test_center_takes_the_mean_over_every_split():
    raw, other = images(7, 4, 6), images(9, 4, 6) // 2
    reference = torch.cat([raw, other])
    out, steps, extra = prepare(raw, "center", every_split=lambda: [raw, other])
    expected = (raw.double() - reference.double().mean(0)) / 255
    torch.testing.assert_close(out[:, 0].double(), expected, rtol=0, atol=1e-6)
    assert steps[-1] == "minus the per-pixel mean of all 16 examples"
    assert extra


def test_center_keeps_dead_pixels_at_zero():
    raw = images(7, 4, 6)
    raw[:, 0, 0] = 0
    out, _, _ = prepare(raw, "center")
    assert torch.equal(out[:, 0, 0, 0], torch.zeros(7))


def test_standardize():
    out, steps, _ = prepare(images(50, 3, 4, 6), "standardize")
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std((0, 2, 3), correction=0), torch.ones(3))
    assert "per channel over all 50" in steps[-1]
    table = torch.randn(50, 4, dtype=torch.float64)
    table[:, 2] = 0.1  # never varies: centred, not divided by a rounding error
    out, steps, _ = prepare(table, "standardize")
    assert out[:, 2].abs().max() < 1e-12
    assert "1 constant" in steps[-1]


def test_none_keeps_pixel_values():
    raw = images(5, 4, 6)
    out, steps, _ = prepare(raw, "none")
    assert torch.equal(out[:, 0], raw.float())
    assert "not scaled" in steps[0]


def test_inputs_are_never_written_to():
    x = torch.randn(6, 3)
    before = x.clone()
    prepare(x, "center")
    prepare(x, "1/2")
    assert torch.equal(x, before)


def test_nested_inputs_are_prepared_leaf_by_leaf():
    raw = {"image": images(5, 4, 6), "ids": torch.arange(5)}
    out, steps, _ = prepare(raw)
    assert out["image"].dtype == torch.float32
    assert out["ids"] is raw["ids"]
    assert len(steps) == 2
    with pytest.raises(OptionError, match="one tensor"):
        prepare(raw, "center")


@pytest.mark.parametrize(
    ("raw", "options", "message"),
    [
        (torch.zeros(5, 24), {"resize": "2x2"}, "need images"),
        (torch.zeros(5, 24, dtype=torch.int64), {"grayscale": True}, "need images"),
        (images(5, 4, 4, 6), {"grayscale": True}, "3 channels"),
    ],
)
def test_what_is_no_image_is_refused(raw, options, message):
    with pytest.raises(OptionError, match=message):
        prepare(raw, **options)


def test_as_many_means_as_channels():
    with pytest.raises(OptionError, match="give 1 or 3"):
        prepare(images(5, 3, 4, 6), "1,2/3,4")


def normalize(value):
    return DataOptions(normalize=value).normalize


def test_normalize():
    assert normalize(None) is None
    assert normalize("Center") == "center"
    assert normalize("0.1307/0.3081") == normalize((0.1307, 0.3081)) == "0.1307/0.3081"
    assert normalize((0.5, [0.25])) == "0.5/0.25"
    assert normalize(" .5, .4/ .2,.1 ") == "0.5,0.4/0.2,0.1"


@pytest.mark.parametrize(
    "value",
    ["mean/std", "0.5", "0.5/0", "0.5/nan", "a/b", "1/2/3", "1,2/3", "/", "", 3, (1, 2, 3)],
)
def test_bad_normalize(value):
    with pytest.raises(OptionError, match=r"`normalize=.*give mean/std"):
        normalize(value)


def test_unknown_normalization_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean 'center'"):
        normalize("centre")


@pytest.mark.parametrize("value", [10, "10", "10x10", (10, 10), "10,10", [10]])
def test_resize(value):
    assert DataOptions(resize=value).resize == "10"


@pytest.mark.parametrize("value", [0, -3, "ten", "10x", "1x2x3", 2.5, True, (), 10**9])
def test_bad_resize(value):
    with pytest.raises(OptionError, match=r"`resize=.*10x12"):
        DataOptions(resize=value)


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_subsets_are_stratified_ascending_and_repeatable(counts, fraction, seed):
    labels = torch.cat([torch.full((c,), i) for i, c in enumerate(counts)])
    total = len(labels)
    size = max(1, round(fraction * total))
    chosen = choose(labels, total, size, seed)
    assert len(chosen) == size
    assert bool((chosen.diff() > 0).all())
    taken = torch.bincount(labels[chosen], minlength=len(counts))
    for share, got in zip(counts, taken.tolist(), strict=True):
        assert abs(got - share * size / total) < 1 + 1e-6
    assert torch.equal(chosen, choose(labels, total, size, seed))


@settings(max_examples=50)
@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=24),
    other=st.lists(st.integers(0, 255), min_size=1, max_size=24),
)
def test_fingerprint_changes_exactly_with_the_content(values, other):
    a, b = (torch.tensor(v, dtype=torch.uint8) for v in (values, other))
    same = values == other
    assert (fingerprint([("inputs", a)]) == fingerprint([("inputs", b)])) == same


def test_fingerprint_sees_type_shape_name_order_and_text():
    x = torch.zeros(4, 6)
    variants = [
        fingerprint([("inputs", x)]),
        fingerprint([("inputs", x.reshape(6, 4))]),
        fingerprint([("inputs", x.to(torch.int32))]),
        fingerprint([("targets", x)]),
        fingerprint([("inputs", (x,))]),
        fingerprint([("inputs", x)], ["pixels / 255"]),
        fingerprint([("inputs", x)], ["pixels", " / 255"]),
    ]
    assert len(set(variants)) == len(variants)


def test_fingerprint_is_of_values_not_of_memory_layout():
    x = torch.randn(5, 7)
    assert fingerprint([("x", x)]) == fingerprint([("x", x.t().contiguous().t())])


def test_fingerprint_is_known():
    # Written down, so that a change of the scheme, or of a platform, is seen.
    x = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    assert fingerprint([("inputs", x)], ["a"]).startswith("0f7d783db9f6e9a2")
