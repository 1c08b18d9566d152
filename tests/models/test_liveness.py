"""Proof that a model is alive: it looks at every byte, at nothing else, and knows what it should.

A published Perceiver ignores its input, and all tests of its shapes pass. Here the head is not zero,
and what is asked of the model is asked of its logits.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_checks import SMALL_MODEL, assert_close, random_projection, randomise

from keras_perceiver import build_classifier, build_encoder

RNG = np.random.default_rng(0)
POSITIONS = ["fourier", "learned", "none"]
GARBAGE = [1e6, -1e30, np.inf, np.nan]


def build(input_shape=(7, 3), **arguments):
    return randomise(build_classifier(input_shape, 13, **{**SMALL_MODEL, "position_channels": 5, **arguments}))


def floats(*shape):
    return RNG.normal(size=shape).astype("float32")


def change(found, reference):
    """Largest change of the logits of each example."""
    return np.abs(np.asarray(found) - np.asarray(reference)).max(axis=-1)


# It looks at every byte


def each_moved(x):
    """`x` (1, .., c) once for each number in it, with that number moved by 1."""
    moved = np.repeat(x, x.size, axis=0)
    moved.reshape(x.size, x.size)[np.diag_indices(x.size)] += 1
    return moved


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("input_shape", [(7, 3), (5, 2, 3), (3, 2, 2, 5)], ids=str)
def test_logits_move_with_every_number_of_every_byte(input_shape, positions):
    model = build(input_shape, positions=positions)
    x = floats(1, *input_shape)
    assert (change(model(each_moved(x)), model(x)) > 1e-4).all()


def test_logits_move_with_every_byte_of_every_modality():
    model = build({"video": (3, 2, 3), "audio": (7, 5)})
    x = {"video": floats(1, 3, 2, 3), "audio": floats(1, 7, 5)}
    for name in x:
        moved = {other: np.repeat(value, x[name].size, axis=0) for other, value in x.items()}
        moved[name] = each_moved(x[name])
        assert (change(model(moved), model(x)) > 1e-4).all()


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_fresh_encoder_looks_at_every_byte(positions):
    keras.utils.set_random_seed(3)
    encoder = build_encoder((7, 3), **SMALL_MODEL, positions=positions)
    x = floats(1, 7, 3)
    moved = np.asarray(encoder(each_moved(x))).reshape(x.size, -1)
    assert (change(moved, np.asarray(encoder(x)).reshape(1, -1)) > 1e-4).all()


@pytest.mark.parametrize("fresh", [True, False])
def test_latents_differ_from_one_another(fresh):
    keras.utils.set_random_seed(3)
    encoder = build_encoder((7, 3), **SMALL_MODEL)
    if not fresh:
        randomise(encoder)
    latents = np.asarray(encoder(floats(2, 7, 3)))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (np.abs(latents[:, a] - latents[:, b]).max(axis=-1) > 1e-3).all()


def test_latents_that_start_alike_stay_alike():
    """Nothing but their initial values tells latents apart."""
    encoder = randomise(build_encoder((7, 3), **SMALL_MODEL))
    layer = encoder.get_layer("latent_array")
    layer.latent_array.assign(np.repeat(np.asarray(layer.latent_array)[:1], 3, axis=0))
    latents = np.asarray(encoder(floats(2, 7, 3)))
    assert_close(latents[:, 1:], latents[:, :2], 1e-6)


# It knows the order of bytes from their positions alone


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("input_shape", [(7, 3), (5, 2, 3)], ids=str)
def test_order_matters_with_positions_only(input_shape, positions):
    model = build(input_shape, positions=positions)
    x = floats(2, *input_shape)
    order = RNG.permutation(int(np.prod(input_shape[:-1])))
    permuted = x.reshape(2, -1, 3)[:, order].reshape(x.shape)
    difference = change(model(permuted), model(x))
    if positions == "none":
        assert (difference < 1e-5).all()
    else:
        assert (difference > 1e-3).all()


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_fourier_positions_tell_every_axis(axis):
    model = build((5, 3, 2, 3))
    x = floats(2, 5, 3, 2, 3)
    assert (change(model(np.flip(x, axis)), model(x)) > 1e-3).all()


def test_permuting_bytes_with_their_learned_positions_changes_nothing():
    """The paper's permuted ImageNet: pixels move after their positions were attached."""
    model = build(positions="learned")
    x, order = floats(2, 7, 3), RNG.permutation(7)
    before = model(x)
    table = model.get_layer("inputs_positions").position_table
    table.assign(np.asarray(table)[order])
    assert_close(model(x[:, order]), before, 1e-5)
    assert (change(model(x), before) > 1e-3).all()


def test_modalities_are_told_apart():
    """Same content, same positions: only the learned vector says which is which."""
    model = build({"left": (7, 3), "right": (7, 3)})
    x, y = floats(2, 7, 3), floats(2, 7, 3)
    assert (change(model({"left": y, "right": x}), model({"left": x, "right": y})) > 1e-3).all()


# It looks at nothing else


def test_examples_of_a_batch_do_not_influence_each_other():
    model = build(padding_mask=True)
    x, mask = floats(3, 7, 3), np.array([[True] * 7, [True] * 5 + [False] * 2, [False] * 7])
    together = model({"inputs": x, "inputs_padding_mask": mask})
    for i in range(3):
        alone = model({"inputs": x[i : i + 1], "inputs_padding_mask": mask[i : i + 1]})
        assert_close(alone, together[i : i + 1], 1e-5)
    moved = x.copy()
    moved[1:] = 1e6
    assert_close(model({"inputs": moved, "inputs_padding_mask": mask})[:1], together[:1], 1e-6)


@pytest.mark.parametrize("positions", POSITIONS)
def test_masked_bytes_have_no_influence(positions):
    model = build((5, 2, 3), positions=positions, padding_mask=True)
    x, mask = floats(2, 5, 2, 3), RNG.random((2, 5, 2)) < 0.6
    mask[:, 0] = True, False
    expected = model({"inputs": x, "inputs_padding_mask": mask})
    for garbage in GARBAGE:
        spoiled = np.where(mask[..., None], x, np.float32(garbage))
        assert_close(model({"inputs": spoiled, "inputs_padding_mask": mask}), expected, 1e-6)
    assert (change(model({"inputs": x, "inputs_padding_mask": np.ones_like(mask)}), expected) > 1e-4).all()


def test_a_masked_modality_has_no_influence():
    model = build({"video": (3, 2, 3), "audio": (7, 5)}, padding_mask=True)
    x = {
        "video": floats(2, 3, 2, 3),
        "audio": floats(2, 7, 5),
        "video_padding_mask": np.zeros((2, 3, 2), bool),
        "audio_padding_mask": np.ones((2, 7), bool),
    }
    expected = model(x)
    for garbage in GARBAGE:
        assert_close(model(x | {"video": np.full_like(x["video"], garbage)}), expected, 1e-6)
    assert (change(model(x | {"audio": x["audio"] + floats(2, 7, 5)}), expected) > 1e-3).all()


@pytest.mark.parametrize("positions", ["learned", "none"])
def test_masking_the_tail_equals_cutting_it_off(positions):
    long, short = build((7, 3), positions=positions, padding_mask=True), build((5, 3), positions=positions)
    tables = {w.path for w in long.weights if w.path.endswith("position_table")}
    for theirs, ours in zip(short.weights, long.weights, strict=True):
        theirs.assign(np.asarray(ours)[:5] if ours.path in tables else ours)
    assert len(tables) == (positions == "learned")
    x, mask = floats(2, 7, 3), np.broadcast_to(np.arange(7) < 5, (2, 7))
    assert_close(long({"inputs": x, "inputs_padding_mask": mask}), short(x[:, :5]), 1e-5)


def test_a_fully_masked_example_knows_nothing_and_harms_nothing():
    model = build((5, 2, 3), padding_mask=True, positions="learned")
    x, mask = tf.constant(floats(3, 5, 2, 3)), np.zeros((3, 5, 2), bool)
    mask[0] = True
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = model({"inputs": x, "inputs_padding_mask": tf.constant(mask)})
        loss = random_projection(logits)
    assert_close(logits[1], logits[2], 1e-6)
    assert change(logits[:1], logits[1:2])[0] > 1e-3
    of_x, *of_weights = tape.gradient(loss, [x, *model.trainable_weights])
    assert all(np.isfinite(keras.ops.convert_to_numpy(g)).all() for g in (logits, of_x, *of_weights))
    assert (np.asarray(of_x)[1:] == 0).all()
    assert (np.asarray(of_x)[0] != 0).all()


# Shared weights are shared


def test_a_shared_weight_acts_wherever_it_is_applied():
    """The second cross-attend stands before blocks 2 and 3: silencing it equals never crossing again."""
    thrice = build(num_blocks=3, num_cross_attends=3)
    once = build(num_blocks=3, num_cross_attends=1)
    second = thrice.get_layer("cross_attention_2")
    for linear in (second.attention_output, second.mlp.contraction):
        linear.kernel.assign(np.zeros(linear.kernel.shape))
        linear.bias.assign(np.zeros(linear.bias.shape))
    ours = {w.path: w for w in thrice.weights}
    for weight in once.weights:
        weight.assign(ours[weight.path])
    x = floats(2, 7, 3)
    assert_close(thrice(x), once(x), 1e-5)


def test_unshared_layers_that_are_given_the_same_weights_equal_shared_ones():
    shared = build(num_blocks=3, num_cross_attends=3)
    unshared = build(num_blocks=3, num_cross_attends=3, share_weights=False)
    ours = {w.path: w for w in shared.weights}
    for weight in unshared.weights:
        path = weight.path.replace("cross_attention_3", "cross_attention_2")
        weight.assign(ours[path.replace("transformer_2", "transformer_1").replace("transformer_3", "transformer_1")])
    x = floats(2, 7, 3)
    assert_close(unshared(x), shared(x), 1e-5)
    unshared.get_layer("latent_transformer_3").self_attention_layers[0].mlp.contraction.bias.assign(np.ones(22))
    assert (change(unshared(x), shared(x)) > 1e-3).all()
