"""Attention maps: the oracle's softmax(Q K^T) of every cross-attend, each weight where its byte comes from."""

import json

import numpy as np
import oracle
import pytest
from layer_checks import SMALL_MODEL, assert_close, randomise
from PIL import Image

from keras_perceiver import byte_arrays
from keras_perceiver._checks import InputError
from keras_perceiver.data import MODALITIES
from keras_perceiver.inspection import attend, attention_maps
from keras_perceiver.inspection.attend import draw_attention
from keras_perceiver.models import build_encoder, build_resnet18

RNG = np.random.default_rng(0)


def built(input_shape, **arguments):
    model = build_encoder(input_shape, **{**SMALL_MODEL, **arguments})
    randomise(model)
    return model


def test_the_maps_of_every_cross_attend_are_those_of_the_oracle():
    model = built((4, 10, 3), patch_size=(2, 5), num_cross_attention_heads=2, cross_attention_head_dim=7)
    inputs = RNG.normal(size=(2, 4, 10, 3)).astype("float32")
    maps = attention_maps(model, inputs, latents=[2, 0])

    patches = inputs.reshape(2, 2, 2, 2, 5, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 2, 2, 30)
    rows = oracle.byte_rows(patches, oracle.fourier_grid((2, 2), 3, (2, 2)))
    weights = oracle.weights_of(model)
    latents = np.stack([weights["latent_array/latent_array"]] * 2)
    for number in range(2):
        own = oracle.inside(weights, f"cross_attention_{number + 1}")
        expected = oracle.cross_attention_weights(own, latents, rows, 2).reshape(2, 3, 2, 2)
        assert_close(maps.chosen[number]["inputs"], expected[:, [2, 0]], 1e-5)
        assert_close(maps.mean[number]["inputs"], expected.mean(axis=1), 1e-5)
        latents = oracle.cross_attention(own, latents, rows, 2)
        latents = oracle.latent_transformer(oracle.inside(weights, "latent_transformer_1"), latents, 1, 2)
    assert len(maps.mean) == 2


@pytest.mark.parametrize("flatten_axes", [False, True])
def test_maps_of_permuted_bytes_are_in_the_places_of_the_bytes(flatten_axes):
    inputs = RNG.normal(size=(2, 4, 5, 3)).astype("float32")
    plain, permuted = (built((4, 5, 3), flatten_axes=flatten_axes, permute_seed=seed) for seed in (None, 3))
    permuted.set_weights(plain.get_weights())
    expected, maps = attention_maps(plain, inputs), attention_maps(permuted, inputs)
    assert maps.mean[1]["inputs"].shape == (2, 4, 5)
    assert_close(maps.chosen[1]["inputs"], expected.chosen[1]["inputs"], 1e-5)
    assert_close(maps.mean[1]["inputs"], expected.mean[1]["inputs"], 1e-5)


def test_modalities_have_their_names_and_what_is_masked_has_no_weight():
    model = built({"image": (4, 5, 3), "audio": (7, 2)}, padding_mask=True, stem=None)
    mask = np.arange(7) < np.array([[3], [7]])
    inputs = {
        "image": RNG.normal(size=(2, 4, 5, 3)),
        "image_padding_mask": np.ones((2, 4, 5), bool),
        "audio": np.where(mask[..., None], RNG.normal(size=(2, 7, 2)), np.nan),
        "audio_padding_mask": mask,
    }
    for weights in attention_maps(model, inputs).mean:
        assert not weights["audio"][~mask].any()
        assert (weights["audio"][mask] > 0).all()
        np.testing.assert_allclose(weights["image"].sum(axis=(1, 2)) + weights["audio"].sum(axis=1), 1, atol=1e-5)


def test_a_stem_shortens_the_map():
    maps = attention_maps(built((5, 8, 3), stem="conv"), RNG.normal(size=(2, 5, 8, 3)))
    assert maps.mean[0]["inputs"].shape == (2, 3, 4)


def test_a_long_byte_array_is_not_built(monkeypatch):
    model = built((512, 512, 3), num_cross_attends=1, cross_attention_implementation="factored")
    monkeypatch.setattr(byte_arrays, "concatenated", lambda *_: pytest.fail("the byte array was built"))
    weights = attention_maps(model, RNG.random((1, 512, 512, 3)), latents=2).chosen[0]["inputs"]
    assert weights.shape == (1, 2, 512, 512)
    np.testing.assert_allclose(weights.sum(axis=(2, 3)), 1, atol=1e-3)


def test_latents_are_chosen_evenly_or_by_their_numbers():
    model, inputs = built((7, 3), num_latents=11), RNG.normal(size=(1, 7, 3))
    everything = attention_maps(model, inputs, latents=list(range(11)))
    some = attention_maps(model, inputs, latents=3)
    assert some.latents == (0, 5, 10)
    np.testing.assert_allclose(some.chosen[1]["inputs"], everything.chosen[1]["inputs"][:, [0, 5, 10]], atol=1e-6)
    np.testing.assert_allclose(some.mean[1]["inputs"], everything.chosen[1]["inputs"].mean(axis=1), atol=1e-6)
    assert attention_maps(model, inputs, latents=40).latents == tuple(range(11))
    for latents, message in ((0, "an integer of at least 1"), ([11], "numbers from 0 to 10"), ([], "numbers from 0")):
        with pytest.raises(InputError, match=message):
            attention_maps(model, inputs, latents=latents)
    with pytest.raises(InputError, match="it has no cross-attends"):
        attention_maps(build_resnet18((8, 8, 1), 2, width=2), np.ones((1, 8, 8, 1)))


def masked(name, shape):
    """Noise of a modality with its mask, a quarter of its first axis padded."""
    mask = np.ones(shape[:-1], bool)
    mask[-(shape[0] // 4) :] = False
    return {name: RNG.uniform(-1, 1, shape).astype("float32"), f"{name}_padding_mask": mask}


EXAMPLES = {  # by modality, or a variant of it: what enters a model, and arguments of the model
    "image": (RNG.uniform(-1, 1, (8, 6, 3)), {}),
    "video": (RNG.uniform(-1, 1, (4, 8, 6, 3)), {"patch_size": 2}),
    "audio": (masked("audio", (8, 6, 1)), {"patch_size": 2}),
    "audio, raw": (masked("audio", (12, 1)), {"patch_size": 3}),
    "points": (masked("points", (16, 3)), {"positions": "coordinates", "max_resolution": 6}),
    "audio_video": (
        masked("audio", (8, 6, 1)) | masked("video", (4, 8, 6, 3)),
        {"patch_size": {"audio": 2, "video": (2, 4, 3)}},
    ),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_modality_is_drawn_with_what_is_looked_at_on_it(kind):
    """Whatever has the largest weight is nearly hidden; nothing is drawn over what is padded."""
    example, arguments = EXAMPLES[kind]
    modality = kind.split(",")[0]
    if isinstance(example, dict):
        shape = {name: x.shape for name, x in example.items() if not name.endswith("_mask")}
        arguments = {**arguments, "padding_mask": True}
    else:
        shape = example.shape
    model = built(shape, **arguments)
    figure = draw_attention(model, MODALITIES[modality], example, 2, "looked at")
    plain, *drawn = figure.axes[:4]  # the first cross-attend: the example, all latents, two of them
    inner = [axes.child_axes or [axes] for axes in drawn]
    assert len({len(parts) for parts in inner}) == 1
    assert len(inner[0]) == {"audio_video": 2, "points": 2}.get(modality, 1)  # frames and sound; from two sides
    for axes in (part for parts in inner for part in parts):
        layers = [image.get_array() for image in axes.images] + [c.get_facecolors() for c in axes.collections]
        colors = np.asarray(layers[-1]).reshape(-1, 4)
        opacity = colors[(colors < 1).any(axis=1), 3]  # between frames it is white
        assert opacity.max() == pytest.approx(0.9)
        assert opacity.min() < 0.9
    assert not any(image.get_array().shape[-1:] == (4,) for image in plain.images)
    assert "uniform" in drawn[0].get_xlabel()


def test_a_drawing_for_each_file_and_none_for_what_cannot_be_read(tiny_run, tmp_path):
    pictures = [tmp_path / "a" / "seven.png", tmp_path / "b" / "seven.png"]
    for number, picture in enumerate(pictures):
        picture.parent.mkdir()
        Image.fromarray(np.eye(8, k=3 * number, dtype=np.uint8) * 255).save(picture)
    drawn = attend(tiny_run.folder, pictures, output=tmp_path / "maps", latents=2)
    assert [path.name for path in drawn] == ["seven.png", "seven-2.png"]
    assert drawn[0].read_bytes() != drawn[1].read_bytes()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png"):
        attend(tiny_run.folder, [*pictures, tmp_path / "broken.png"], output=tmp_path / "others")
    assert not (tmp_path / "others").exists()


def test_only_finished_runs_of_a_perceiver_attend(tiny_run, tmp_path):
    with pytest.raises(InputError, match="`run` must be the folder of a run"):
        attend(tmp_path, ["picture.png"])
    config = {**tiny_run.config(), "network": "resnet18"}
    for name, content in (("config.json", config), ("metrics.json", {})):
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match="must be that of a Perceiver"):
        attend(tmp_path, ["picture.png"])
