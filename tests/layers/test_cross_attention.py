import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from keras import ops
from layer_checks import assert_close, assert_gradients, check_layer, random_projection, randomised, tensors, thorough

from keras_perceiver import CrossAttention, FourierPositions, LatentArray
from keras_perceiver._checks import InputError, InputTypeError

IMPLEMENTATIONS = ["dense", "absorbed", "factored"]
RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype("float32")


def some(*shape):
    """A mask with both values in every example."""
    mask = RNG.random(shape) < 0.6
    mask.reshape(shape[0], -1)[:, :2] = True, False
    return mask


LATENTS = floats(2, 3, 13)
# C = 5 + 4 + 6 = 15 channels in all of them, but for the tensor of 5.
GRID = {"content": floats(2, 7, 3, 5), "tables": [floats(7, 1, 4), floats(1, 3, 6)]}
BYTE_ARRAYS = {
    "tensor": floats(2, 7, 5),
    "one axis": {"content": floats(2, 7, 5), "tables": [floats(7, 10)]},
    "two axes": GRID,
    "three axes": {
        "content": floats(2, 7, 3, 2, 5),
        "tables": [floats(7, 1, 1, 2), floats(1, 3, 1, 3), floats(1, 1, 2, 4), floats(1, 1, 1, 1)],
    },
    "learned table": {"content": floats(2, 7, 3, 5), "tables": [floats(7, 3, 10)]},
    "no tables": {"content": floats(2, 7, 3, 15), "tables": []},
    "masked": GRID | {"padding_mask": some(2, 7, 3)},
    "modalities": {
        "video": {"content": floats(2, 3, 2, 3), "tables": [floats(3, 1, 5), floats(1, 2, 3), floats(1, 1, 4)]},
        "audio": {"content": floats(2, 7, 5), "tables": [floats(7, 10)]},
    },
    "masked modalities": {
        "video": {"content": floats(2, 3, 2, 3), "tables": [floats(3, 1, 5), floats(1, 2, 7)]},
        "audio": {"content": floats(2, 7, 5), "tables": [floats(7, 10)], "padding_mask": some(2, 7)},
    },
}


def oracle_rows(byte_array):
    """`((B, M, C), (B, M))` of any byte array, modalities in any order: attention does not mind."""
    if not isinstance(byte_array, dict):
        byte_array = {"content": byte_array, "tables": []}
    if "content" in byte_array:
        byte_array = {"only": byte_array}
    rows, masks = [], []
    for segment in byte_array.values():
        content = np.asarray(segment["content"], "float64")
        sizes = content.shape[1:-1]
        rows.append(oracle.byte_rows(content, *(np.broadcast_to(t, (*sizes, t.shape[-1])) for t in segment["tables"])))
        masks.append(np.reshape(segment.get("padding_mask", np.ones(content.shape[:-1], bool)), (len(content), -1)))
    return np.concatenate(rows, axis=1), np.concatenate(masks, axis=1)


def oracle_call(layer, latents, byte_array, num_heads=1):
    rows, mask = oracle_rows(byte_array)
    return oracle.cross_attention(oracle.weights_of(layer), np.asarray(latents, "float64"), rows, num_heads, mask)


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    return request.param


@pytest.mark.parametrize("kind", ["masked modalities", *thorough("tensor", "two axes")])
def test_it_is_a_layer(tmp_path, implementation, kind):
    arguments = {"num_heads": 2, "head_dim": 11, "widening_factor": 3}
    arguments |= {"implementation": implementation, "memory_budget": 2**16}
    check_layer(
        tmp_path,
        CrossAttention,
        arguments,
        {"latents": LATENTS, "byte_array": BYTE_ARRAYS[kind]},
        precise=("byte_norm", "key", "value"),
        cancelled=["key/bias"],  # adds the same to all scores of a query
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-8)])  # 1e-8: see test_mlp.py
@pytest.mark.parametrize("kind", BYTE_ARRAYS)
@pytest.mark.parametrize("heads", [{"num_heads": 5}, {"num_heads": 2, "head_dim": 11}], ids=str)
def test_it_equals_the_oracle(implementation, kind, heads, dtype, tolerance):
    inputs = {"latents": LATENTS, "byte_array": BYTE_ARRAYS[kind]}
    layer = randomised(CrossAttention(**heads, implementation=implementation, name="layer", dtype=dtype), inputs)
    expected = oracle_call(layer, LATENTS, BYTE_ARRAYS[kind], heads["num_heads"])
    assert_close(layer(**tensors(inputs)), expected, tolerance)


@pytest.mark.parametrize(("kind", "memory_budget"), [*((kind, None) for kind in BYTE_ARRAYS), ("masked", 2**11)])
def test_its_weights_are_those_of_the_oracle(kind, memory_budget):
    byte_array = BYTE_ARRAYS[kind]
    inputs = {"latents": LATENTS, "byte_array": byte_array}
    layer = randomised(CrossAttention(2, 11, memory_budget=memory_budget, name="layer"), inputs)
    rows, mask = oracle_rows(byte_array)
    expected = oracle.cross_attention_weights(oracle.weights_of(layer), LATENTS, rows, 2, mask)
    weights = layer.attention_weights(**tensors(inputs))
    names = [name for name in byte_array if name in ("video", "audio")] if isinstance(byte_array, dict) else []
    parts = [weights[name] for name in names] or [weights]
    assert len(parts[0].shape) == len(np.shape(byte_array[names[0]]["content"] if names else _content(byte_array)))
    assert_close(np.concatenate([np.reshape(part, (2, 3, -1)) for part in parts], axis=2), expected, 1e-5)
    np.testing.assert_allclose(sum(np.reshape(part, (2, 3, -1)).sum(axis=2) for part in parts), 1, atol=1e-5)


def _content(byte_array):
    return byte_array["content"] if isinstance(byte_array, dict) else byte_array


def test_an_example_whose_bytes_are_all_masked_attends_to_nothing():
    byte_array = GRID | {"padding_mask": np.stack([np.zeros((7, 3), bool), some(1, 7, 3)[0]])}
    layer = randomised(CrossAttention(), {"latents": LATENTS, "byte_array": byte_array})
    weights = np.asarray(layer.attention_weights(**tensors({"latents": LATENTS, "byte_array": byte_array})))
    assert not weights[0].any()
    assert not weights[1][:, ~byte_array["padding_mask"][1]].any()


def test_the_width_is_that_of_the_byte_array_unless_said_otherwise(implementation):
    def widths(**arguments):
        layer = CrossAttention(**arguments, implementation=implementation)
        layer(LATENTS, GRID)
        return (
            tuple(layer.query.kernel.shape),
            tuple(layer.key.kernel.shape),
            tuple(layer.attention_output.kernel.shape),
        )

    assert widths() == ((13, 15), (15, 15), (15, 13))
    assert widths(num_heads=3) == ((13, 15), (15, 15), (15, 13))
    assert widths(num_heads=2, head_dim=11) == ((13, 22), (15, 22), (22, 13))


def test_the_residual_stands_on_the_latents_as_they_came(implementation):
    layer = CrossAttention(implementation=implementation)
    layer(LATENTS, GRID)
    layer.attention_output.kernel.assign(ops.zeros((15, 13)))
    layer.mlp.contraction.kernel.assign(ops.zeros((13, 13)))
    np.testing.assert_array_equal(layer(LATENTS, GRID), LATENTS)


@pytest.mark.parametrize("garbage", [1e6, -1e30, np.inf, np.nan], ids=str)
def test_masked_bytes_have_no_influence(implementation, garbage):
    inputs = {"latents": LATENTS, "byte_array": BYTE_ARRAYS["masked"]}
    layer = randomised(CrossAttention(implementation=implementation), inputs)
    mask = BYTE_ARRAYS["masked"]["padding_mask"]
    content = tf.constant(np.where(mask[..., None], GRID["content"], garbage).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(content)
        found = layer(LATENTS, {**BYTE_ARRAYS["masked"], "content": content})
        loss = random_projection(found)
    assert_close(found, layer(**tensors(inputs)), 1e-6)
    gradients = tape.gradient(loss, [content, *layer.trainable_weights])
    assert all(np.isfinite(ops.convert_to_numpy(g)).all() for g in gradients)
    np.testing.assert_array_equal(np.asarray(gradients[0]) != 0, np.broadcast_to(mask[..., None], content.shape))


def test_a_mask_of_nothing_changes_nothing(implementation):
    inputs = {"latents": LATENTS, "byte_array": GRID}
    layer = randomised(CrossAttention(implementation=implementation), inputs)
    masked = GRID | {"padding_mask": np.ones((2, 7, 3), bool)}
    assert_close(layer(LATENTS, masked), layer(LATENTS, GRID), 1e-6)


def test_masking_the_tail_equals_cutting_it_off(implementation):
    layer = randomised(CrossAttention(implementation=implementation), {"latents": LATENTS, "byte_array": GRID})
    mask = np.zeros((2, 7, 3), bool)
    mask[:, :5] = True
    short = {"content": GRID["content"][:, :5], "tables": [GRID["tables"][0][:5], GRID["tables"][1]]}
    assert_close(layer(LATENTS, GRID | {"padding_mask": mask}), layer(LATENTS, short), 1e-6)


def test_a_fully_masked_example_attends_to_nothing(implementation):
    mask = np.array([[[True] * 3] * 7, [[False] * 3] * 7])
    inputs = {"latents": LATENTS, "byte_array": GRID | {"padding_mask": mask}}
    layer = randomised(CrossAttention(implementation=implementation, name="layer"), inputs)
    content, latents = tf.constant(GRID["content"]), tf.constant(LATENTS)
    with tf.GradientTape() as tape:
        tape.watch([content, latents])
        found = layer(latents, {**inputs["byte_array"], "content": content})
        loss = random_projection(found)
    weights = oracle.weights_of(layer)
    alone = LATENTS + weights["attention_output/bias"]  # the linear map of zero
    alone = alone + oracle.mlp(
        oracle.inside(weights, "mlp"), oracle.layer_norm(oracle.inside(weights, "mlp_norm"), alone)
    )
    assert_close(found[1], alone[1], 1e-5)
    gradients = [ops.convert_to_numpy(g) for g in tape.gradient(loss, [content, latents, *layer.trainable_weights])]
    assert all(np.isfinite(g).all() for g in gradients)
    assert (gradients[0][1] == 0).all()
    assert (gradients[0][0] != 0).all()
    assert (gradients[1] != 0).all()


def test_gradients_reach_tables_and_content(implementation):
    byte_array = BYTE_ARRAYS["modalities"]
    inputs = {"latents": LATENTS, "byte_array": byte_array}
    layer = randomised(CrossAttention(implementation=implementation, dtype="float64"), inputs)
    leaves = [
        keras.Variable(x, dtype="float64", name=f"leaf_{i}") for i, x in enumerate(keras.tree.flatten(byte_array))
    ]
    with tf.GradientTape() as tape:
        values = [leaf.value + 0.0 for leaf in leaves]
        found = layer(tf.constant(LATENTS, "float64"), keras.tree.pack_sequence_as(byte_array, values))
        loss = random_projection(found)
    assert_gradients(leaves, tape.gradient(loss, [leaf.value for leaf in leaves]))


def test_gradients_are_the_slopes_of_the_oracle(implementation):
    """Along a random direction in all weights and the content at once."""
    byte_array = BYTE_ARRAYS["masked modalities"]
    inputs = {"latents": LATENTS, "byte_array": byte_array}
    layer = randomised(CrossAttention(5, implementation=implementation, name="layer", dtype="float64"), inputs)
    content = tf.constant(byte_array["audio"]["content"], "float64")

    def structure(value):
        return {**byte_array, "audio": {**byte_array["audio"], "content": value}}

    with tf.GradientTape() as tape:
        tape.watch(content)
        loss = random_projection(layer(LATENTS.astype("float64"), structure(content)))
    gradients = tape.gradient(loss, [content, *layer.trainable_weights])
    start = [content.numpy(), *(ops.convert_to_numpy(w) for w in layer.trainable_weights)]
    directions = [RNG.normal(size=x.shape) for x in start]
    slope = sum((ops.convert_to_numpy(g) * d).sum() for g, d in zip(gradients, directions, strict=True))

    def oracle_loss(step):
        moved = [x + step * d for x, d in zip(start, directions, strict=True)]
        layer.set_weights(moved[1:])
        return float(random_projection(tf.constant(oracle_call(layer, LATENTS, structure(moved[0]), 5))))

    step = 1e-4
    np.testing.assert_allclose(slope, (oracle_loss(step) - oracle_loss(-step)) / (2 * step), rtol=1e-5)


def test_half_precision_latents_meet_bytes_in_full_precision(implementation):
    # Two bytes that differ by less than bfloat16 can tell apart from 1, and attention that tells them apart.
    byte_array = np.array([[[1.0, 1.001, 0.999], [1.0, 0.999, 1.001]]], "float32")
    latents = floats(1, 3, 13)
    layer = randomised(
        CrossAttention(implementation=implementation, name="layer"), {"latents": latents, "byte_array": byte_array}
    )
    half = CrossAttention(implementation=implementation, dtype="mixed_bfloat16")
    half(latents, byte_array)
    half.set_weights(layer.get_weights())
    assert_close(half(latents, byte_array), oracle_call(layer, latents, byte_array), 0.03)


def test_batch_and_length_may_be_open(implementation):
    latents, content = keras.Input((3, 13)), keras.Input((None, 5))
    layer = CrossAttention(implementation=implementation)
    model = keras.Model([latents, content], layer(latents, content))
    randomised(layer, {"latents": LATENTS, "byte_array": floats(2, 7, 5)})
    for batch, length in ((2, 7), (1, 11)):
        x = [floats(batch, 3, 13), floats(batch, length, 5)]
        assert_close(model.predict(x, verbose=0), layer(*x), 1e-6)


def test_a_cloud_whose_tail_is_masked_equals_the_shorter_cloud(implementation):
    content, points = floats(2, 7, 5), np.tanh(floats(2, 7, 3))
    positions, latent_array, layer = FourierPositions(3, 11), LatentArray(3, 13), CrossAttention(2)
    mask = np.broadcast_to(np.arange(7) < 5, (2, 7))
    long = positions(content, coordinates=points, padding_mask=mask)
    short = positions(content[:, :5], coordinates=points[:, :5])
    latents = latent_array(long)
    randomised(layer, {"latents": np.asarray(latents), "byte_array": np.asarray(short["content"])})
    assert_close(layer(latents, long), layer(latents, short), 1e-6)


@pytest.mark.parametrize(
    ("byte_array", "rule"),
    [
        (GRID | {"tables": [floats(3, 1, 10)]}, "Every table must have the shape"),
        (GRID | {"padding_mask": np.ones((2, 7), bool)}, "`padding_mask` must have the shape"),
        (floats(2, 5), "`content` must have the shape"),
        ({"a": GRID, "b": {"content": floats(2, 7, 5), "tables": []}}, "same number of channels"),
        ({"a": floats(2, 7, 5)}, "`byte_array` must be"),
    ],
    ids=["table", "mask", "rank", "widths", "no segment"],
)
def test_byte_arrays_that_do_not_fit_are_refused(byte_array, rule):
    with pytest.raises(InputError, match=rule):
        CrossAttention()(LATENTS, byte_array)


@pytest.mark.parametrize(
    ("segment", "rule"),
    [
        ({"content": floats(2, 5, 11, 3)}, "Every table must have the shape"),
        (
            {"content": floats(2, 5, 7, 3), "padding_mask": np.ones((2, 7, 5), bool)},
            "`padding_mask` must have the shape",
        ),
        ({"content": floats(2, 5, 7, 3)}, "One row needs 336 bytes"),
    ],
    ids=["table", "mask", "budget"],
)
def test_lengths_that_are_unknown_at_build_time_are_checked_when_they_are_known(segment, rule):
    layer = CrossAttention(memory_budget=300, implementation="factored")
    unknown = {"content": (None, None, None, 3), "tables": [(None, 1, 2), (1, None, 2)]}
    layer.build((None, 3, 13), unknown | ({"padding_mask": (None,) * 3} if "padding_mask" in segment else {}))
    with pytest.raises(InputError, match=rule):
        layer(LATENTS, segment | {"tables": [floats(5, 1, 2), floats(1, 7, 2)]})


def test_heads_must_divide_the_channels():
    with pytest.raises(InputError, match=r"`num_heads` must divide the channels .*num_heads=7, channels=15"):
        CrossAttention(7)(LATENTS, GRID)


def test_bytes_of_one_channel_are_refused():
    """Their LayerNorm is its offset, whatever they hold: the model would be dead."""
    with pytest.raises(InputError, match=r"`byte_array` must have at least 2 channels.*Received: channels=1\. Attach"):
        CrossAttention()(LATENTS, floats(2, 7, 1))


def test_masks_must_be_boolean():
    byte_array = GRID | {"padding_mask": np.ones((2, 7, 3), "float32")}
    with pytest.raises(InputTypeError, match="`padding_mask` must be boolean"):
        CrossAttention()(LATENTS, byte_array)


def test_implementations_are_known_by_name():
    with pytest.raises(InputError, match=r"`implementation` must be one of .*'dense'.*Did you mean 'dense'"):
        CrossAttention(implementation="dens")
