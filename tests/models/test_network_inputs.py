"""The networks that a Perceiver is compared with, on sounds, films and clouds: what is padded, and what they refuse."""

import numpy as np
import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.models import NETWORKS
from keras_perceiver.models.network_inputs import TAKES
from tests.layer_checks import randomise

SHAPES = {
    "picture": (8, 6, 3),
    "film": (4, 8, 6, 3),
    "samples": {"audio": (12, 1)},
    "spectrogram": {"audio": (8, 6, 1)},
    "cloud": {"points": (7, 5)},
}
SMALL = {
    "resnet18": {"width": 4},
    "vit": {"patch_size": 2, "width": 8, "num_self_attention_layers": 1, "num_self_attention_heads": 2},
    "transformer": {"width": 8, "num_self_attention_layers": 1, "num_self_attention_heads": 2, "num_bands": 2},
    "pointnet": {"width": 8},
}
# All that is built here but pictures, which `test_baselines.py` has.
MASKED = [
    ("resnet18", "spectrogram"),
    ("vit", "spectrogram"),
    ("transformer", "cloud"),
    ("pointnet", "cloud"),
    pytest.param("transformer", "spectrogram", marks=pytest.mark.thorough),
    *(pytest.param(network, "samples", marks=pytest.mark.thorough) for network in ("resnet18", "vit", "transformer")),
]
PAIRS = [*MASKED, *((network, "film") for network in ("resnet18", "vit", "transformer"))]


def built(network, data, **arguments):
    return randomise(NETWORKS[network](SHAPES[data], 5, **{**SMALL[network], **arguments}))


def padded(data, real=0.5):
    """A batch of two with its mask, the first of them padded behind a part of its first axis."""
    ((name, shape),) = SHAPES[data].items()
    content = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    mask = np.ones((2, *shape[:-1]), bool)
    mask[0, int(real * shape[0]) :] = False
    return {name: content, f"{name}_padding_mask": mask}


@pytest.mark.parametrize(("network", "data"), PAIRS)
def test_logits_depend_on_every_element(network, data):
    model, shape = built(network, data), SHAPES[data]
    batch = padded(data, real=1) if isinstance(shape, dict) else np.random.default_rng(0).normal(size=(2, *shape))
    name = next(iter(batch)) if isinstance(batch, dict) else None
    content = batch if name is None else batch[name]
    logits = model(batch).numpy()
    for place in {tuple(0 for _ in content.shape[1:]), tuple(size - 1 for size in content.shape[1:])}:
        moved = 0
        for sign in (-30, 30):  # behind a ReLU or a maximum, one way may be lost
            changed = content.copy()
            changed[(slice(None), *place)] += sign
            answer = model(changed if name is None else {**batch, name: changed}).numpy()
            moved = np.maximum(moved, np.abs(answer - logits).max(axis=1))
        assert (moved > 1e-6).all(), place


@pytest.mark.parametrize(("network", "data"), MASKED)
def test_what_is_padded_takes_part_in_nothing(network, data):
    """Not in the logits, and not in the running means of a normalisation either."""
    batch = padded(data)
    name = next(iter(batch))
    other = {**batch, name: np.where(batch[f"{name}_padding_mask"][..., None], batch[name], np.nan)}
    model, twin = built(network, data), built(network, data)
    for training in (False, True):
        ours, theirs = (m(x, training=training).numpy() for m, x in ((model, batch), (twin, other)))
        if not (training and network == "pointnet"):  # whose dropout draws
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert np.isfinite(theirs).all()
    for one, two in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("network", ["transformer", "pointnet"])
def test_a_padded_cloud_is_the_cloud_without_its_padding(network):
    model, batch = built(network, "cloud"), padded("cloud", real=4 / 7)
    SHAPES["short"] = {"points": (4, 5)}
    short = NETWORKS[network](SHAPES.pop("short"), 5, **SMALL[network])
    short.set_weights(model.get_weights())
    cut = {"points": batch["points"][:1, :4], "points_padding_mask": np.ones((1, 4), bool)}
    np.testing.assert_allclose(short(cut).numpy(), model(batch).numpy()[:1], atol=1e-5)


@pytest.mark.parametrize(("network", "data"), MASKED)
def test_an_example_that_is_all_padding_has_an_answer(network, data):
    assert np.isfinite(built(network, data)(padded(data, real=0)).numpy()).all()


@pytest.mark.parametrize(
    ("network", "data", "message"),
    [
        ("resnet18", "cloud", "for 'resnet18'.*There are other networks for it: perceiver, transformer, pointnet"),
        ("resnet50", "film", "pictures or spectrograms.*perceiver, resnet18, vit, transformer"),
        ("vit", "cloud", "for 'vit'.*perceiver, transformer, pointnet"),
        ("pointnet", "picture", "a cloud of points.*perceiver, resnet18, resnet50, vit, transformer"),
        ("pointnet", "spectrogram", "a cloud of points.*perceiver, resnet18, resnet50, vit, transformer"),
    ],
)
def test_what_a_network_is_not_made_for_is_refused_with_those_that_are(network, data, message):
    with pytest.raises(InputError, match=f"`input_shape` must be of .*{message}"):
        NETWORKS[network](SHAPES[data], 5)


@pytest.mark.parametrize("network", TAKES)
@pytest.mark.parametrize("shape", [(3,), (None, 8, 1), (8, 8, 8, 8, 1), {"points": (7, 2)}, {}, "picture"])
def test_what_is_no_shape_is_refused_by_all(network, shape):
    with pytest.raises(InputError, match="`input_shape` must be of"):
        NETWORKS[network](shape, 3)


def test_several_modalities_are_refused():
    with pytest.raises(InputError, match="`input_shape` must be of one modality for 'vit'"):
        NETWORKS["vit"]({"audio": (8, 6, 1), "video": (4, 8, 6, 3)}, 5)


def test_a_transformer_of_too_many_bytes_is_refused():
    with pytest.raises(InputError, match=r"`patch_size` must leave at most 16,384 bytes.*bytes=65536"):
        NETWORKS["transformer"]((256, 256, 3), 5)
