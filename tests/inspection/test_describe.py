"""What `describe` says of a model, against the paper's figures."""

import json

import pytest

from keras_perceiver import build_classifier, build_preset
from keras_perceiver._checks import InputError
from keras_perceiver.inspection import describe, describe_model


@pytest.mark.parametrize(("cross_attends", "gigaflops"), [(1, 404.0), (2, 447.2), (4, 533.5), (8, 706.3)])
def test_textbook_flops_are_the_papers(cross_attends, gigaflops):
    description = describe_model(build_preset("imagenet", num_cross_attends=cross_attends))
    assert description.textbook_flops / 1e9 == pytest.approx(gigaflops, abs=0.05)


def test_imagenet_is_described_to_the_last_parameter():
    description = describe("imagenet")
    assert description.parameters == description.trainable_parameters == 44_912_254
    assert description.parameter_bytes == 4 * 44_912_254
    rows = {layer.name: layer for layer in description.layers}
    assert rows["cross_attention_1"].parameters == rows["cross_attention_2"].parameters == 2_776_395
    assert (rows["cross_attention_1"].calls, rows["cross_attention_2"].calls) == (1, 7)
    assert (rows["latent_transformer_1"].parameters, rows["latent_transformer_1"].calls) == (37_810_176, 8)
    assert description.not_counted == ()
    assert sum(layer.parameters for layer in description.layers) == description.parameters


def test_a_saved_model_is_described_like_the_live_one(tmp_path):
    model = build_classifier(
        (5, 2),
        3,
        num_bands=2,
        num_latents=3,
        latent_dim=8,
        num_blocks=2,
        num_cross_attends=1,
        num_self_attention_layers=1,
        num_self_attention_heads=2,
        name="small",
    )
    model.save(tmp_path / "model.keras")
    live = describe_model(model)
    assert json.loads(describe(str(tmp_path / "model.keras")).to_json()) == json.loads(live.to_json())
    assert describe(str(tmp_path)).parameters == model.count_params()


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"Received: model='imagnet'. Did you mean 'imagenet'"):
        describe("imagnet")
    (tmp_path / "a.keras").write_bytes(b"broken")
    with pytest.raises(InputError, match="`model` must be a preset"):
        describe(str(tmp_path / "a.keras"))
