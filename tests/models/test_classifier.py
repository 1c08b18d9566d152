import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from layer_checks import SMALL_MODEL, assert_close, assert_gradients, random_projection, randomise

from keras_perceiver import build_classifier, build_encoder
from keras_perceiver._checks import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 7, 3, 5)).astype("float32")


def build(input_shape=(7, 3, 5), num_classes=13, **arguments):
    return build_classifier(input_shape, num_classes, **{**SMALL_MODEL, **arguments})


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-7)])
def test_it_equals_the_oracle(dtype, tolerance):
    model = randomise(build(dtype=dtype))
    weights = oracle.weights_of(model)
    expected = oracle.classifier(
        weights,
        oracle.byte_rows(X, oracle.fourier_grid((7, 3), 3, (7, 3))),
        num_blocks=2,
        num_cross_attends=2,
        num_self_attention_layers=1,
        num_self_attention_heads=2,
    )
    assert expected.std() > 0.1
    assert_close(model(X), expected, tolerance)


def test_it_is_the_encoder_with_a_mean_and_a_head():
    model, encoder = randomise(build()), build_encoder((7, 3, 5), **SMALL_MODEL)
    assert [w.path for w in model.weights] == [w.path for w in encoder.weights] + ["logits/kernel", "logits/bias"]
    encoder.set_weights(model.get_weights()[:-2])
    kernel, bias = model.get_weights()[-2:]
    assert_close(model(X), np.asarray(encoder(X)).mean(axis=1) @ kernel + bias, 1e-5)


def test_logits_of_a_fresh_model_are_zero():
    np.testing.assert_array_equal(build()(X), np.zeros((2, 13)))


# Saving and compiling

KINDS = {
    "fourier": (7, 3, 5),
    "learned": (7, 3, 5),
    "masked": (7, 3, 5),
    "modalities": {"video": (7, 3, 5), "audio": (11, 2)},
}
ARGUMENTS = {
    "fourier": {"max_resolution": (11, 13), "widening_factor": 2},
    "learned": {"positions": "learned", "position_channels": 11, "share_weights": False},
    "masked": {"padding_mask": True, "positions": "none"},
    "modalities": {"padding_mask": True, "num_cross_attention_heads": 2, "cross_attention_head_dim": 7},
}


def inputs_of(model):
    """Random inputs of a model, masks with bytes of both kinds."""

    def values(symbol):
        shape = (2, *symbol.shape[1:])
        return RNG.random(shape) < 0.6 if symbol.dtype == "bool" else RNG.normal(size=shape).astype("float32")

    return keras.tree.map_structure(values, model.input)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_comes_back_the_same(tmp_path, kind):
    model = randomise(build(KINDS[kind], **ARGUMENTS[kind]))
    inputs = inputs_of(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    assert loaded.count_params() == model.count_params()
    assert_close(loaded(inputs), model(inputs), 1e-6)


def test_weights_go_from_one_model_to_its_like(tmp_path):
    model, other = randomise(build()), build()
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert_close(other(X), model(X), 1e-6)


@pytest.mark.parametrize(("kind", "jit_compile"), [("fourier", False), ("modalities", False), ("modalities", True)])
def test_compiled_equals_eager(kind, jit_compile):
    model = randomise(build(KINDS[kind], **ARGUMENTS[kind]))
    inputs = inputs_of(model)
    model.compile(jit_compile=jit_compile)
    assert_close(model.predict(inputs, verbose=0), model(inputs), 2e-5)


def test_a_model_learns_its_examples():
    x, y = RNG.normal(size=(11, 7, 5)).astype("float32"), np.arange(11) % 3
    model = build((7, 5), 3, num_blocks=1, num_cross_attends=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"], jit_compile=False)
    first = model.evaluate(x, y, batch_size=11, verbose=0, return_dict=True)
    model.fit(np.tile(x, (60, 1, 1)), np.tile(y, 60), batch_size=11, shuffle=False, verbose=0)  # 60 steps
    last = model.evaluate(x, y, batch_size=11, verbose=0, return_dict=True)
    np.testing.assert_allclose(first["loss"], np.log(3), rtol=1e-5)
    assert last["loss"] < 0.1
    assert last["accuracy"] == 1


# Dtypes


@pytest.mark.parametrize(
    ("policy", "compute", "logits"),
    [
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("mixed_float16", "float16", "float32"),
        ("bfloat16", "bfloat16", "float32"),
        ("float64", "float64", "float64"),
        (None, "float32", "float32"),
    ],
)
@pytest.mark.parametrize("globally", [False, True], ids=["argument", "global"])
def test_policies_reach_every_layer_but_the_logits(policy, compute, logits, globally):
    if globally:
        keras.config.set_dtype_policy(policy or "float32")
        model = build()
    else:
        model = build(dtype=policy)
    layers = [layer for layer in model.layers if layer.name not in ("inputs", "logits")]
    assert {layer.name: layer.compute_dtype for layer in layers} == dict.fromkeys((x.name for x in layers), compute)
    assert model.output.dtype == logits
    assert model.compute_dtype == compute
    assert keras.backend.standardize_dtype(model(X).dtype) == logits
    assert model.input.dtype == "float32"


def test_half_precision_stays_near():
    model, half = randomise(build()), build(dtype="mixed_bfloat16")
    half.set_weights(model.get_weights())
    expected = np.asarray(model(X))
    assert_close(half(X), expected, 0.05)


def test_mixed_float16_scales_its_loss():
    model = build(dtype="mixed_float16")
    model.compile("adam", "mse")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


# Initial values (appendix C; the zero head: DeepMind's code)


def test_initial_values_of_every_weight():
    model = build((31, 29, 19), latent_dim=128, widening_factor=3, num_latents=101, num_self_attention_layers=1)
    seen = set()
    for weight in model.weights:
        value, kind = np.asarray(weight), weight.path.rpartition("/")[2]
        seen.add(kind)
        if weight.path.startswith("logits/") or kind in ("bias", "beta"):
            assert (value == 0).all(), weight.path
        elif kind == "gamma":
            assert (value == 1).all(), weight.path
        elif kind == "kernel":
            std = 1 / np.sqrt(weight.shape[0])
            np.testing.assert_allclose(value.std(), std, rtol=0.06, err_msg=weight.path)
            assert np.abs(value).max() <= 2.0001 * std / 0.87962566, weight.path
        else:
            assert kind == "latent_array", weight.path
            assert np.abs(value).max() <= 0.04
            np.testing.assert_allclose(value.std(), 0.0176, rtol=0.03)
    assert seen == {"bias", "beta", "gamma", "kernel", "latent_array"}


def test_initial_values_follow_the_seed():
    def fresh(seed):
        keras.utils.set_random_seed(seed)
        return build().get_weights()

    for first, again, other in zip(fresh(3), fresh(3), fresh(5), strict=True):
        np.testing.assert_array_equal(first, again)
        constant = len(np.unique(first)) == 1
        assert constant or (first != other).any()


# Gradients


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_has_a_gradient(kind):
    model = randomise(build(KINDS[kind], dtype="float64", **ARGUMENTS[kind]))
    inputs = inputs_of(model)
    with tf.GradientTape() as tape:
        loss = random_projection(model(inputs))
    gradients = tape.gradient(loss, model.trainable_weights)
    cancelled = ["key/bias", ("query_key_value/bias", slice(22, 44))]
    assert_gradients(model.trainable_weights, gradients, cancelled)


# Bad input


@pytest.mark.parametrize("num_classes", [0, -1, 2.0, "ten", None, True])
def test_the_number_of_classes_is_checked(num_classes):
    with pytest.raises(InputError, match=r"`num_classes` must be an integer of at least 1\. Received: num_classes="):
        build(num_classes=num_classes)


def test_the_encoder_s_checks_hold():
    with pytest.raises(InputError, match="`num_cross_attends` must be at most `num_blocks`"):
        build(num_cross_attends=3)
