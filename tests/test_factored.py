"""The exact forms of cross-attention against the textbook form: results and all gradients."""

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from keras_perceiver import ByteNormalization, CrossAttention, build_encoder
from keras_perceiver._blocks import examples_at_once
from keras_perceiver.attention import ByteProjection
from keras_perceiver.byte_arrays import num_channels, segments
from keras_perceiver.implementations import IMPLEMENTATIONS, cross_attention
from tests.layer_checks import thorough

FAST = tuple(name for name in IMPLEMENTATIONS if name != "dense")
EPSILON = 1e-5
BATCH, LATENTS, HEADS, HEAD_DIM = 2, 3, 2, 5
KEY_BIAS = 5  # of the results: softmax cancels it, and what the textbook form finds is its rounding error


def array(rng, *shape):
    return rng.standard_normal(shape)


def grid(rng, sizes, channels=3, batch=BATCH):
    """A grid with a table for each axis."""
    tables = [
        array(rng, *(size if a == axis else 1 for a in range(len(sizes))), 2 + axis) for axis, size in enumerate(sizes)
    ]
    return {"content": array(rng, batch, *sizes, channels), "tables": tables}


def masked(segment, mask):
    return {**segment, "padding_mask": np.broadcast_to(mask, segment["content"].shape[:-1]).copy()}


def with_table(segment, *tables):
    return {**segment, "tables": [*segment["tables"], *tables]}


def some_rows_masked(rng):
    mask = rng.random((BATCH, 5, 7)) < 0.5
    mask[0] = False  # the first example has nothing
    mask[1, 2] = False  # the second misses a row
    return mask


def two_modalities(rng):
    mask = rng.random((BATCH, 11)) < 0.5
    mask[0] = False
    return {
        "image": masked(with_table(grid(rng, (5, 7)), array(rng, 1, 1, 3)), some_rows_masked(rng)),
        "audio": masked({"content": array(rng, BATCH, 11, 4), "tables": [array(rng, 11, 5), array(rng, 1, 2)]}, mask),
    }


def two_modalities_one_mask(rng):
    points = {"content": array(rng, BATCH, 7, 3), "tables": [array(rng, 1, 4)]}
    image = with_table(grid(rng, (2, 3), channels=1), array(rng, 1, 1, 1))
    return {"points": points, "image": masked(image, [[[True] * 3, [False] * 3]])}


def no_positions(rng, *sizes):
    return {"content": array(rng, BATCH, *sizes, 5), "tables": []}


CASES = {
    "tensor": lambda rng: array(rng, BATCH, 7, 5),
    "no positions": lambda rng: no_positions(rng, 5, 7),
    "one axis": lambda rng: grid(rng, (7,)),
    "two axes": lambda rng: grid(rng, (5, 7)),
    "three axes": lambda rng: grid(rng, (2, 3, 5)),
    "four axes": lambda rng: grid(rng, (2, 3, 2, 5)),
    "four axes, a table of every other one": lambda rng: with_table(
        {"content": array(rng, BATCH, 3, 2, 5, 2, 3), "tables": []}, array(rng, 3, 1, 5, 1, 2)
    ),
    "a table of the first axis alone": lambda rng: {
        "content": array(rng, BATCH, 5, 7, 3),
        "tables": [array(rng, 5, 1, 4)],
    },
    "patches": lambda rng: grid(rng, (3, 2), channels=12),
    "several tables an axis": lambda rng: with_table(grid(rng, (5, 7)), array(rng, 5, 1, 1), array(rng, 1, 7, 4)),
    "a table of two axes out of three": lambda rng: with_table(grid(rng, (2, 3, 5)), array(rng, 2, 3, 1, 2)),
    "a table across the split": lambda rng: with_table(grid(rng, (2, 3, 5)), array(rng, 2, 1, 5, 2)),
    "modality vector": lambda rng: with_table(grid(rng, (5, 7)), array(rng, 1, 1, 3)),
    "modality vector alone": lambda rng: {"content": array(rng, BATCH, 7, 3), "tables": [array(rng, 1, 2)]},
    "learned positions": lambda rng: {"content": array(rng, BATCH, 5, 7, 3), "tables": [array(rng, 5, 7, 6)]},
    "mask": lambda rng: masked(grid(rng, (5, 7)), some_rows_masked(rng)),
    "everything masked": lambda rng: masked(grid(rng, (5, 7)), False),
    "mask without positions": lambda rng: masked(no_positions(rng, 7), [[True] * 4 + [False] * 3]),
    "two modalities": two_modalities,
    "two modalities, one mask": two_modalities_one_mask,
    "one-element axes": lambda rng: grid(rng, (1, 7, 1)),
    "one byte": lambda rng: grid(rng, (1, 1)),
    "constant content": lambda rng: {**grid(rng, (5, 7)), "content": np.full((BATCH, 5, 7, 3), 7.0)},
    "constant bytes": lambda rng: np.full((BATCH, 7, 5), 3.0),
    "offset": lambda rng: {**grid(rng, (5, 7)), "content": 1e4 + array(rng, BATCH, 5, 7, 3)},
    "offset without positions": lambda rng: 1e4 + array(rng, BATCH, 7, 5),
    "magnitude": lambda rng: {**grid(rng, (5, 7)), "content": 1e4 * array(rng, BATCH, 5, 7, 3)},
}


class Problem:
    """A byte array with weights and a cotangent; `run` gives the result and all gradients, in float64."""

    def __init__(self, rng, byte_array, latents=LATENTS, heads=HEADS, head_dim=HEAD_DIM, score_scale=1.0):
        channels = num_channels(keras.tree.map_structure(lambda x: x.shape, byte_array))
        width = heads * head_dim
        batch = next(iter(segments(byte_array).values()))["content"].shape[0]
        self.heads, self.byte_array = heads, byte_array
        self.query = score_scale * array(rng, batch, latents, width)
        shapes = [(channels,), (channels,), (channels, width), (width,), (channels, width), (width,)]
        self.weights = [array(rng, *shape) for shape in shapes]
        self.cotangent = array(rng, batch, latents, width)

    def run(self, implementation, dtype="float64", mode="eager", memory_budget=1500):
        function, arguments = self._function(implementation, dtype, memory_budget)
        if mode != "eager":
            function = tf.function(function, jit_compile=mode == "xla")
        return [np.asarray(t, "float64") for t in function(*arguments)]

    def products(self, implementation):
        """All matrix products forward and backward, as operations of a graph."""
        function, arguments = self._function(implementation, "float32", 10**6)  # one block: no loop hides them
        graph = tf.function(function).get_concrete_function(*arguments).graph
        graphs = [graph, *(f.graph for f in graph._functions.values() if hasattr(f, "graph"))]
        return [o for g in graphs for o in g.get_operations() if o.type in ("MatMul", "BatchMatMulV2")]

    def _function(self, implementation, dtype, memory_budget):
        def as_tensor(x):
            return tf.convert_to_tensor(x) if x.dtype == bool else tf.convert_to_tensor(x, dtype)

        def forward_and_backward(query, weights, byte_array):
            inputs = [t for t in keras.tree.flatten((query, weights, byte_array)) if t.dtype != tf.bool]
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                output = cross_attention(
                    implementation,
                    query,
                    byte_array,
                    ByteProjection(*weights),
                    num_heads=self.heads,
                    epsilon=EPSILON,
                    memory_budget=memory_budget,
                )
                loss = tf.reduce_sum(output * tf.cast(self.cotangent, dtype))
            return [output, *tape.gradient(loss, inputs, unconnected_gradients="zero")]

        arguments = keras.tree.map_structure(as_tensor, (self.query, self.weights, self.byte_array))
        return forward_and_backward, arguments


def distances(results, expected, floor=0.0):
    """Largest difference of each tensor, relative to its largest entry, or to `floor` times that of all tensors."""
    floor = 1e-300 + floor * max(np.abs(e).max() for e in expected)
    pairs = [(r, e) for i, (r, e) in enumerate(zip(results, expected, strict=True)) if i != KEY_BIAS]
    return np.array([np.abs(r - e).max() / max(np.abs(e).max(), floor) for r, e in pairs])


@pytest.mark.parametrize("case", CASES)
def test_equals_textbook_form_in_float64(case):
    rng = np.random.default_rng(3)
    problem = Problem(rng, CASES[case](rng))
    expected = problem.run("dense")
    # Equal bytes normalise to zero, and an offset of 1e4 leaves its rounding to LayerNorm: there some gradients are
    # differences of far larger terms, and the textbook form itself is no more accurate than these let it be.
    floor = 1e-5 if case in ("constant bytes", "offset") else 0.0
    for implementation in FAST:
        results = problem.run(implementation)
        assert distances(results, expected, floor).max() < 1e-9, implementation
        assert np.abs(results[KEY_BIAS]).max() == 0, implementation


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize("case", ["two modalities", *thorough("tensor", "one axis", "three axes", "learned positions")])
def test_graph_and_xla_equal_eager(case, mode, implementation):
    rng = np.random.default_rng(4)
    problem = Problem(rng, CASES[case](rng))
    assert distances(problem.run(implementation, mode=mode), problem.run(implementation)).max() < 1e-12


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("case", ["two axes", "learned positions", "two modalities"])
def test_no_product_broadcasts_over_its_batch(case, heads, implementation):
    """TensorFlow 2.21 writes beyond its buffers in (8, 1, 16, 21) by (1, 21, 21) on processors with AVX-512."""
    rng = np.random.default_rng(8)
    products = Problem(rng, CASES[case](rng), heads=heads).products(implementation)
    assert len(products) >= 6
    for product in products:
        a, b = (tuple(tensor.shape)[:-2] for tensor in product.inputs)
        assert a == b, product


# Those in which numbers meet that differ in size, and one of each kind of byte array.
DELICATE = ("tensor", "two axes", "learned positions", "mask", "two modalities", "offset", "magnitude")


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("score_scale", [1e4, *thorough(1.0)])
@pytest.mark.parametrize("case", [*DELICATE, *thorough(*(case for case in CASES if case not in DELICATE))])
def test_float32_is_as_accurate_as_the_textbook_form(case, score_scale, implementation):
    rng = np.random.default_rng(5)
    problem = Problem(rng, CASES[case](rng), latents=7, score_scale=score_scale)
    expected = problem.run("dense")
    textbook, results = problem.run("dense", "float32"), problem.run(implementation, "float32")
    assert all(np.isfinite(r).all() for r in results)
    error, textbook_error = (distances(r, expected, floor=1e-5) for r in (results, textbook))
    assert error.max() <= max(4 * textbook_error.max(), 1e-5)


@pytest.mark.parametrize(
    ("batch", "budget", "expected"),
    [(6, 500, 1), (6, 3400, 1), (6, 7000, 2), (6, 17_000, 3), (6, 21_000, None), (7, 11_000, None), (None, 500, 1)],
)
def test_as_many_examples_are_taken_together_as_fit_and_divide_the_batch(batch, budget, expected):
    """One example has 3·35 scores, of which 4 temporaries of 8 bytes take 3,360 bytes."""
    query = {"content": keras.KerasTensor((batch, 3, 2), "float64")}
    rows = {"content": keras.KerasTensor((batch, 5, 7, 2), "float64")}
    assert examples_at_once([query], [rows], budget) == expected


@pytest.mark.parametrize("budget", [500, 7000, 17_000])
def test_examples_taken_a_few_at_a_time_give_the_same(budget):
    rng = np.random.default_rng(9)
    problem = Problem(rng, grid(rng, (5, 7), batch=6), latents=3, heads=1)
    few, whole = (problem.run("factored", memory_budget=b) for b in (budget, 10**9))
    assert distances(few, whole).max() < 1e-12


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_masked_content_has_no_influence_whatever_it_is(garbage, implementation):
    rng = np.random.default_rng(6)
    problem = Problem(rng, CASES["mask"](rng))
    clean = problem.run(implementation)
    content, mask = problem.byte_array["content"], problem.byte_array["padding_mask"]
    problem.byte_array["content"] = np.where(mask[..., None], content, garbage)
    for result, expected in zip(problem.run(implementation), clean, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_example_without_bytes_gives_zero_and_no_gradient(implementation):
    rng = np.random.default_rng(7)
    problem = Problem(rng, CASES["mask"](rng))
    output, query_gradient = problem.run(implementation)[:2]
    assert np.abs(output[0]).max() == 0 < np.abs(output[1]).max()
    assert np.abs(query_gradient[0]).max() == 0 < np.abs(query_gradient[1]).max()


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch = draw(st.integers(1, 3))
    byte_array, channels = {}, draw(st.integers(12, 16))
    for name in "abc"[: draw(st.integers(1, 3))]:
        sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
        widths = draw(st.lists(st.integers(1, 3), max_size=3))
        tables = [array(rng, *(s if draw(st.booleans()) else 1 for s in sizes), width) for width in widths]
        segment = {"content": array(rng, batch, *sizes, channels - sum(widths)), "tables": tables}
        if draw(st.booleans()):
            segment = masked(segment, rng.random((batch, *sizes)) < draw(st.sampled_from([0.0, 0.3, 0.8])))
        byte_array[name] = segment
    heads, head_dim, latents = (draw(st.integers(1, 3)) for _ in range(3))
    return Problem(rng, byte_array, latents, heads, head_dim)


@hypothesis.given(problems(), st.sampled_from([1, 500, 3000, 10**7]), st.sampled_from(FAST))
def test_equals_textbook_form_on_whatever_shape(problem, memory_budget, implementation):
    results, expected = problem.run(implementation, memory_budget=memory_budget), problem.run("dense")
    for index, (result, value) in enumerate(zip(results, expected, strict=True)):
        if index != KEY_BIAS:
            np.testing.assert_allclose(result, value, rtol=1e-9, atol=1e-9 * (1 + np.abs(value).max()))


@pytest.mark.parametrize("mode", ["xla", *thorough("graph")])
@pytest.mark.parametrize("memory_budget", [1500, *thorough(10**7)])
def test_open_batch_dimension(mode, memory_budget):
    rng = np.random.default_rng(8)
    byte_array = CASES["two modalities"](rng)
    problem = Problem(rng, byte_array)
    contents = {name: tf.TensorSpec((None, *s["content"].shape[1:]), "float64") for name, s in byte_array.items()}
    query = tf.TensorSpec((None, *problem.query.shape[1:]), "float64")

    @tf.function(input_signature=[query, contents], jit_compile=mode == "xla")
    def attend(query, contents):
        segments = {
            name: {"content": contents[name], "tables": [tf.constant(t) for t in segment["tables"]]}
            for name, segment in byte_array.items()
        }
        with tf.GradientTape() as tape:
            tape.watch((query, contents))
            output = cross_attention(
                "factored",
                query,
                segments,
                ByteProjection(*map(tf.constant, problem.weights)),
                num_heads=HEADS,
                epsilon=EPSILON,
                memory_budget=memory_budget,
            )
        return output, tape.gradient(output, (query, contents))

    def examples(indices):
        contents = {name: tf.constant(s["content"][indices]) for name, s in byte_array.items()}
        return keras.tree.flatten(attend(tf.constant(problem.query[indices]), contents))

    for together, *alone in zip(examples([0, 1]), examples([0]), examples([1]), strict=True):
        np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("policy", ["float32", "float64", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("case", ["tensor", "two axes", "two modalities"])
def test_layer_gives_the_same_with_every_implementation(case, policy):
    rng = np.random.default_rng(9)
    byte_array = keras.tree.map_structure(tf.convert_to_tensor, CASES[case](rng))
    latents = array(rng, BATCH, LATENTS, 6)
    tolerance = {"float64": 1e-12, "float32": 1e-5}.get(policy, 2e-2)
    outputs, weights = [], None
    for name in IMPLEMENTATIONS:
        layer = CrossAttention(head_dim=HEAD_DIM, implementation=name, dtype=policy)
        layer(latents, byte_array)
        weights = weights or layer.get_weights()
        layer.set_weights(weights)
        outputs.append(np.asarray(layer(latents, byte_array), "float64"))
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], rtol=tolerance, atol=tolerance)


def test_byte_normalization_changes_nothing_but_the_work():
    rng = np.random.default_rng(10)
    problem = Problem(rng, CASES["two modalities"](rng))
    expected = problem.run("factored")[0]
    byte_array = keras.tree.map_structure(tf.convert_to_tensor, problem.byte_array)
    normalized = ByteNormalization(dtype="float64")(byte_array)
    assert normalized["image"]["normalized"].shape == (BATCH, 5, 7, 3 + 2)
    problem.byte_array = keras.tree.map_structure(np.asarray, normalized)
    np.testing.assert_allclose(problem.run("factored")[0], expected, rtol=1e-12)


def test_encoder_has_the_same_gradients_with_every_implementation():
    gradients, weights = {}, None
    rng = np.random.default_rng(11)
    inputs = {"image": array(rng, BATCH, 5, 7, 3), "audio": array(rng, BATCH, 11, 2)}
    for name in IMPLEMENTATIONS:
        encoder = build_encoder(
            {"image": (5, 7, 3), "audio": (11, 2)},
            num_bands=2,
            num_latents=3,
            latent_dim=8,
            num_blocks=2,
            num_cross_attends=2,
            num_self_attention_layers=0,
            cross_attention_implementation=name,
            dtype="float64",
        )
        weights = weights or encoder.get_weights()
        encoder.set_weights(weights)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(inputs) ** 3)
        gradients[name] = tape.gradient(loss, encoder.trainable_variables)
        paths = [weight.path for weight in encoder.trainable_variables]
    for name in FAST:
        for path, expected, result in zip(paths, gradients["dense"], gradients[name], strict=True):
            if not path.endswith("key/bias"):
                np.testing.assert_allclose(result, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
