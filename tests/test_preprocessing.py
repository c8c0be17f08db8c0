"""Input transformations: exact forward passes, identity backward passes, cards that say something impossible."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models_zoo.errors import CardError
from models_zoo.preprocessing import build


def images(n=3, c=3, size=16, seed=0):
    return torch.rand(n, c, size, size, generator=torch.Generator().manual_seed(seed))


def pillow_round_trip(x, **options):
    """One image at a time through Pillow, as somebody outside this package would do it."""
    out = []
    for image in (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy():
        stream = io.BytesIO()
        Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0]).save(stream, **options)
        out.append(np.asarray(Image.open(stream)).reshape(image.shape))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [20, 75])
def test_jpeg_is_pillows_jpeg(channels, quality):
    x = images(c=channels)
    assert torch.equal(
        build([{"kind": "jpeg", "quality": quality}])(x), pillow_round_trip(x, format="JPEG", quality=quality)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_pillows_png(channels):
    x = images(c=channels)
    assert torch.equal(build([{"kind": "png"}])(x), pillow_round_trip(x, format="PNG"))


@given(bits=st.integers(1, 16), seed=st.integers(0, 1000))
def test_bit_depth_gives_the_nearest_level_and_keeps_levels(bits, seed):
    x = images(1, 1, 4, seed)
    transform = build([{"kind": "bit_depth", "bits": bits}])
    reduced = transform(x)
    assert len(reduced.unique()) <= 2**bits
    assert (reduced - x).abs().max() <= 0.5 / (2**bits - 1) + 1e-6
    assert torch.equal(transform(reduced), reduced)


def test_bit_depth_of_three_bits_by_hand():
    x = torch.tensor([0.0, 0.05, 0.08, 0.5, 0.97, 1.0]).view(1, 1, 1, 6)
    assert build([{"kind": "bit_depth", "bits": 3}])(x).flatten().mul(7).tolist() == [0, 0, 1, 4, 7, 7]


@pytest.mark.parametrize("spec", [{"kind": "bit_depth", "bits": 3}, {"kind": "png"}, {"kind": "jpeg", "quality": 75}])
def test_the_gradient_is_the_networks_at_the_transformed_image(spec):
    transform, x = build([spec]), images().requires_grad_()
    weight = torch.rand_like(x)
    (gradient,) = torch.autograd.grad((weight * transform(x) ** 3).sum(), x)
    assert torch.allclose(gradient, 3 * weight * transform(x.detach()) ** 2)


def test_second_derivatives_pass_through():
    transform, x = build([{"kind": "bit_depth", "bits": 3}]), images(1, 1, 2).requires_grad_()
    (first,) = torch.autograd.grad((transform(x) ** 3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert torch.allclose(second, 6 * transform(x.detach()))


def test_transformations_are_applied_in_the_order_of_the_card():
    x = images()
    both = build([{"kind": "bit_depth", "bits": 1}, {"kind": "normalise", "mean": [0.5, 0.4, 0.3], "std": [0.5, 1, 2]}])
    expected = (x.round() - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 1, 2]).view(3, 1, 1)
    assert torch.allclose(both(x), expected)


def test_an_empty_card_changes_nothing_and_nothing_has_weights():
    x = images()
    assert torch.equal(build([])(x), x)
    assert build([{"kind": "normalise", "mean": [0.5], "std": [0.5]}]).state_dict() == {}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "gif"}, "no input transformation of kind 'gif'. Known: bit_depth, jpeg, normalise, png"),
        ({"quality": 75}, "no input transformation of kind None"),
        ({"kind": "jpeg", "quality": 0}, "quality goes from 1 to 95, got 0"),
        ({"kind": "jpeg", "q": 75}, "'jpeg' got {'q': 75}.*Its arguments: quality"),
        ({"kind": "bit_depth", "bits": 17}, "1 to 16 bits, got 17"),
        ({"kind": "bit_depth", "bits": "3"}, "'bit_depth' got {'bits': '3'}.*Its arguments: bits"),
        ({"kind": "normalise", "mean": [0.5], "std": [0.5, 0.5]}, "as many means as deviations"),
        ({"kind": "normalise", "mean": [0.5], "std": [0]}, "greater than 0"),
        ({"kind": "normalise", "mean": 0.5, "std": 0.5}, "'normalise' got .*Its arguments: mean, std"),
    ],
)
def test_impossible_cards_are_refused(spec, message):
    with pytest.raises(CardError, match=message):
        build([spec])


def test_jpeg_refuses_other_numbers_of_channels():
    with pytest.raises(CardError, match="1 or 3 channels, got 2"):
        build([{"kind": "jpeg"}])(images(c=2))
