"""Beginning from the weights of another model: what is taken, what is new, what is refused."""

import keras
import numpy as np
import pytest

from keras_perceiver import build_classifier
from keras_perceiver._checks import InputError
from keras_perceiver.training import Recipe, find_initial, freeze, take_weights
from keras_perceiver.training.state import State, named_values, write_state

SIZE = {"num_bands": 2, "num_latents": 3, "latent_dim": 8, "num_blocks": 1, "num_cross_attends": 1}
SIZE |= {"num_self_attention_layers": 1, "num_self_attention_heads": 2}


def build(shape=(5, 7, 1), classes=3, **arguments):
    return build_classifier(shape, classes, **{**SIZE, **arguments})


def randomised(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model = randomised(build())
    model.save(path)
    return path, {weight.path: weight.numpy() for weight in model.weights}


def test_another_size_takes_every_weight_and_other_classes_all_but_the_logits(saved):
    path, values = saved
    larger = build(shape=(11, 13, 1))
    assert take_weights(larger, find_initial(path)).endswith("new: none")
    for weight in larger.weights:
        np.testing.assert_array_equal(weight.numpy(), values[weight.path])
    other = build(classes=5)
    said = take_weights(other, find_initial(path))
    assert said == f"{len(values) - 2} of {len(values)} weights from {path}; new: logits/kernel; logits/bias"
    assert not np.any(other.get_layer("logits").kernel)


def test_weights_of_one_precision_are_taken_by_a_model_of_another_which_answers_nearly_alike(saved):
    path, _ = saved
    pictures = np.random.default_rng(1).normal(size=(4, 5, 7, 1))
    exact = keras.models.load_model(path)(pictures).numpy()
    for precision, tolerance in (("mixed_bfloat16", 0.1), ("mixed_float16", 0.01)):
        model = build(dtype=precision)
        take_weights(model, find_initial(path))
        assert model.get_layer("cross_attention_1").compute_dtype == precision.removeprefix("mixed_")
        answer = model(pictures).numpy()
        assert 0 < np.abs(answer - exact).max() < tolerance * np.abs(exact).max()


def test_a_run_of_other_classes_gives_no_logits_though_there_are_as_many(tmp_path, saved):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text('{"source": {"class_names": ["cat", "dog", "pig"]}}')
    model = randomised(build())
    write_state(folder / "checkpoint", State(1, 2, [], {"model": named_values(model.variables)}))
    initial = find_initial(folder)
    same, other = build(), build()
    assert take_weights(same, initial, ["cat", "dog", "pig"]).endswith("new: none")
    assert take_weights(other, initial, ["cat", "dog", "cow"]).endswith("new: logits/kernel; logits/bias")
    np.testing.assert_array_equal(same.get_layer("logits").kernel, model.get_layer("logits").kernel)
    assert not np.any(other.get_layer("logits").kernel)


def test_what_has_no_weights_that_fit_is_refused(tmp_path, saved):
    with pytest.raises(InputError, match=r"`init` must be a `.keras` file, or the folder of a run"):
        find_initial(tmp_path)
    with pytest.raises(InputError, match="`init` must hold weights of the model's names and shapes"):
        take_weights(build(latent_dim=10, num_bands=3, classes=4), find_initial(saved[0]))
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(InputError, match=r"text.keras"):
        take_weights(build(), find_initial(tmp_path / "text.keras"))


def test_frozen_layers_are_named_and_stay_as_they_are():
    model = randomised(build())
    frozen = ["latent_array", "cross_attention_1", "latent_transformer_1"]
    assert freeze(model, ["latent_array", "*_1"]) == frozen
    before = {weight.path: weight.numpy() for weight in model.weights}
    Recipe(1, 4, 0.1, weight_decay=0.1, jit_compile=False).compile(model, 1)
    model.train_on_batch(np.ones((4, 5, 7, 1), np.float32), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]])
    moved = {weight.path for weight in model.weights if not np.array_equal(weight.numpy(), before[weight.path])}
    assert moved == {"logits/kernel", "logits/bias"}
    with pytest.raises(InputError, match="Did you mean 'latent_array'"):
        freeze(model, ["latent_aray"])
    with pytest.raises(InputError, match="must leave a layer to be trained"):
        freeze(model, ["*"])
