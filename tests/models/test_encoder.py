import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import SMALL_MODEL, assert_close, randomise

from keras_perceiver import CrossAttention, LatentTransformer, build_encoder
from keras_perceiver._checks import InputError
from keras_perceiver.models.encoder import cross_attends_per_block

RNG = np.random.default_rng(0)


def build(input_shape=(7, 5), **arguments):
    return build_encoder(input_shape, **{**SMALL_MODEL, **arguments})


def applications(model):
    """Names of the layers that the latents pass through, from the first to the last."""
    names, tensor = [], model.outputs[0]
    while True:
        layer, node_index, _ = tensor._keras_history
        names.append(layer.name)
        if layer.name == "latent_array":
            return names[::-1]
        tensor = layer._inbound_nodes[node_index].arguments.args[0]


# Placement and sharing


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((8, 8, "interleaved"), [1] * 8),
        ((8, 4, "interleaved"), [1, 0] * 4),
        ((8, 1, "interleaved"), [1] + [0] * 7),
        ((6, 2, "interleaved"), [1, 0, 0, 1, 0, 0]),
        ((8, 8, "start"), [8] + [0] * 7),
        ((3, 2, "start"), [2, 0, 0]),
    ],
)
def test_where_cross_attends_stand(arguments, expected):
    assert cross_attends_per_block(*arguments) == expected


@given(st.integers(1, 7), st.integers(1, 7))
def test_interleaved_cross_attends_stand_at_equal_distances(num_cross_attends, stride):
    before = cross_attends_per_block(num_cross_attends * stride, num_cross_attends, "interleaved")
    assert [block for block, crossings in enumerate(before) if crossings] == [
        i * stride for i in range(num_cross_attends)
    ]
    assert set(before) <= {0, 1}


def test_interleaved_and_shared():
    assert applications(build(num_blocks=4, num_cross_attends=4)) == [
        *("latent_array", "cross_attention_1", "latent_transformer_1"),
        *("cross_attention_2", "latent_transformer_1") * 3,
    ]


def test_fewer_cross_attends_than_blocks():
    assert applications(build(num_blocks=4, num_cross_attends=2)) == [
        *("latent_array", "cross_attention_1", "latent_transformer_1", "latent_transformer_1"),
        *("cross_attention_2", "latent_transformer_1", "latent_transformer_1"),
    ]


def test_all_at_the_start():
    assert applications(build(num_blocks=3, num_cross_attends=3, cross_attend_placement="start")) == [
        *("latent_array", "cross_attention_1", "cross_attention_2", "cross_attention_2"),
        *("latent_transformer_1",) * 3,
    ]


def test_nothing_shared():
    assert applications(build(num_blocks=3, num_cross_attends=3, share_weights=False)) == [
        "latent_array",
        *(name for i in (1, 2, 3) for name in (f"cross_attention_{i}", f"latent_transformer_{i}")),
    ]


def test_without_latent_transformer():
    assert applications(build(num_self_attention_layers=0)) == [
        "latent_array",
        "cross_attention_1",
        "cross_attention_2",
    ]


def test_the_number_of_shared_weights_does_not_depend_on_depth():
    shallow, deep = build(num_blocks=2), build(num_blocks=8, num_cross_attends=8)
    assert [(w.path, w.shape) for w in deep.weights] == [(w.path, w.shape) for w in shallow.weights]


def test_no_weight_is_held_twice():
    for share_weights in (True, False):
        model = build(num_blocks=4, num_cross_attends=4, share_weights=share_weights)
        assert len({id(w) for w in model.weights}) == len({w.path for w in model.weights}) == len(model.weights)
        kinds = [type(layer) for layer in model.layers]
        assert kinds.count(CrossAttention) == (2 if share_weights else 4)
        assert kinds.count(LatentTransformer) == (1 if share_weights else 4)


# Equality with the oracle


def case(input_shape=(7, 5), masked=False, **arguments):
    return input_shape, masked, arguments


CASES = {
    "one axis": case(),
    "two axes": case((7, 3, 5)),
    "three axes": case((5, 3, 2, 7)),
    "resolution": case((7, 3, 5), max_resolution=(11, 13)),
    "learned": case((7, 3, 5), positions="learned", position_channels=11),
    "none": case((7, 5), positions="none"),
    "masked": case((7, 3, 5), masked=True),
    "modalities": case({"video": (3, 2, 2, 3), "audio": (7, 5)}, max_resolution={"audio": 11, "video": (5, 7, 13)}),
    "masked modalities": case({"video": (3, 2, 3), "audio": (7, 5)}, masked=True),
    "learned modalities": case({"video": (3, 2, 3), "audio": (7, 5)}, positions="learned", position_channels=11),
    "deep": case(num_blocks=6, num_cross_attends=3, num_self_attention_layers=2),
    "start": case(num_blocks=4, num_cross_attends=3, cross_attend_placement="start"),
    "unshared": case(num_blocks=4, num_cross_attends=2, share_weights=False),
    "unshared start": case(num_blocks=3, num_cross_attends=2, share_weights=False, cross_attend_placement="start"),
    "crosses only": case(num_blocks=3, num_cross_attends=3, num_self_attention_layers=0),
    "heads": case(num_cross_attention_heads=3, cross_attention_head_dim=7, num_self_attention_heads=11),
    "wide": case(widening_factor=3),
}


def random_inputs(input_shape, masked, batch=2):
    """`({modality: content}, {modality: mask})`."""
    shapes = input_shape if isinstance(input_shape, dict) else {"inputs": input_shape}
    content = {name: RNG.normal(size=(batch, *shape)).astype("float32") for name, shape in shapes.items()}
    masks = {name: RNG.random(x.shape[:-1]) < 0.6 for name, x in content.items()}
    return content, masks if masked else {}


def model_inputs(content, masks):
    if set(content) == {"inputs"} and not masks:
        return content["inputs"]
    return {**content, **{f"{name}_padding_mask": mask for name, mask in masks.items()}}


def oracle_rows(weights, content, masks, arguments):
    """The whole byte array and its mask, from the paper's description."""
    features, rows = {}, {}
    kind = arguments.get("positions", "fourier")
    for name, x in content.items():
        sizes = x.shape[1:-1]
        if kind == "fourier":
            resolution = arguments.get("max_resolution", sizes)
            resolution = resolution.get(name) if isinstance(resolution, dict) else resolution
            resolution = resolution if isinstance(resolution, tuple) else (resolution,) * len(sizes)
            features[name] = [oracle.fourier_grid(sizes, SMALL_MODEL["num_bands"], resolution)]
        else:
            features[name] = [weights[f"{name}_positions/position_table"]] if kind == "learned" else []
        if len(content) > 1:
            vector = weights[f"modality_encoding/{name}_vector"]
            features[name].append(np.broadcast_to(vector, (*sizes, len(vector))))
        rows[name] = oracle.byte_rows(x, *features[name])
    mask = [np.reshape(masks.get(name, np.ones(x.shape[:-1], bool)), (len(x), -1)) for name, x in content.items()]
    return np.concatenate(list(rows.values()), axis=1), np.concatenate(mask, axis=1)


ORACLE_ARGUMENTS = (
    "num_blocks",
    "num_cross_attends",
    "share_weights",
    "num_self_attention_layers",
    "num_self_attention_heads",
    "num_cross_attention_heads",
)


def oracle_arguments(arguments):
    known = {name: value for name, value in {**SMALL_MODEL, **arguments}.items() if name in ORACLE_ARGUMENTS}
    return known | {"at_start": arguments.get("cross_attend_placement") == "start"}


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [(name, "float64", 1e-7) for name in CASES]
    + [(name, "float32", 2e-5) for name in ("deep", "masked modalities", "unshared start")],
)
def test_it_equals_the_oracle(name, dtype, tolerance):
    input_shape, masked, arguments = CASES[name]
    model = randomise(build(input_shape, padding_mask=masked, dtype=dtype, **arguments))
    content, masks = random_inputs(input_shape, masked)
    weights = oracle.weights_of(model)
    rows, mask = oracle_rows(weights, content, masks, arguments)
    expected = oracle.encoder(weights, rows, mask=mask, **oracle_arguments(arguments))
    assert_close(model(model_inputs(content, masks)), expected, tolerance)


# What goes in and comes out


def test_names_and_shapes_of_inputs():
    assert build().input.name == "inputs"
    assert build().input.shape == (None, 7, 5)
    assert {n: x.shape for n, x in build(padding_mask=True).input.items()} == {
        "inputs": (None, 7, 5),
        "inputs_padding_mask": (None, 7),
    }
    both = build({"video": (3, 2, 3), "audio": (7, 5)}, padding_mask=True).input
    assert {n: (x.shape, x.dtype) for n, x in both.items()} == {
        "video": ((None, 3, 2, 3), "float32"),
        "video_padding_mask": ((None, 3, 2), "bool"),
        "audio": ((None, 7, 5), "float32"),
        "audio_padding_mask": ((None, 7), "bool"),
    }


def test_one_modality_in_a_dictionary_needs_no_encoding():
    model = build({"audio": (7, 5)})
    assert set(model.input) == {"audio"}
    assert "modality_encoding" not in {layer.name for layer in model.layers}
    assert model.output.shape == (None, 3, 22)


def test_without_positions_the_length_may_be_open():
    model = randomise(build((None, 5), positions="none"))
    assert {model(RNG.normal(size=(2, length, 5))).shape for length in (7, 11)} == {(2, 3, 22)}


def test_the_latents_standard_deviation_is_an_argument():
    model = build(num_latents=101, latent_initial_std=0.5)
    np.testing.assert_allclose(np.asarray(model.get_layer("latent_array").latent_array).std(), 0.44, rtol=0.05)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_blocks": 0}, "`num_blocks` must be an integer of at least 1. Received: num_blocks=0."),
        ({"num_cross_attends": 1.5}, "`num_cross_attends` must be an integer of at least 1."),
        ({"num_cross_attends": 3}, "`num_cross_attends` must be at most `num_blocks`."),
        (
            {"num_blocks": 5, "num_cross_attends": 2},
            "`num_cross_attends` must divide `num_blocks` where cross-attends are interleaved. "
            'Received: num_cross_attends=2, num_blocks=5. Choose a divisor, or `cross_attend_placement="start"`.',
        ),
        ({"cross_attend_placement": "begin"}, "`cross_attend_placement` must be one of 'interleaved', 'start'."),
        ({"positions": "furier"}, "Received: positions='furier'. Did you mean 'fourier'?"),
        ({"num_self_attention_layers": -1}, "`num_self_attention_layers` must be an integer of at least 0."),
        ({"num_self_attention_heads": 7}, "`num_heads` must divide the channels of the latents."),
        ({"num_cross_attention_heads": 5}, "`num_heads` must divide the channels of the byte array"),
        ({"num_latents": 0}, "`num_latents` must be an integer of at least 1."),
        ({"latent_dim": "wide"}, "`latent_dim` must be an integer of at least 1."),
        ({"latent_initial_std": 0}, "`initial_std` must be a finite number above 0."),
        ({"num_bands": 0}, "`num_bands` must be an integer of at least 1."),
        ({"max_resolution": (7, 3)}, "`max_resolution` must be a number, or hold one number per axis."),
        ({"max_resolution": {"input": 7}}, "Received: modality='input'. Did you mean 'inputs'?"),
        ({"positions": "learned", "position_channels": 0}, "`num_channels` must be an integer of at least 1."),
        ({"widening_factor": 0}, "`widening_factor` must be an integer of at least 1."),
        ({"input_shape": (None, 5)}, "`content` must have the static shape"),
        ({"input_shape": (None, 5), "positions": "learned"}, "`content` must have the static shape"),
        *(
            ({"input_shape": shape}, "`input_shape` must be (S_1, .., S_d, c)")
            for shape in (7, (7,), (7, None), (0, 5), (7, -5), "75", {"audio": (7,)}, {3: (7, 5)}, None)
        ),
        ({"input_shape": (7, 1), "positions": "none"}, "`byte_array` must have at least 2 channels"),
        ({"input_shape": {}}, "`input_shape` must name at least one modality."),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InputError) as caught:
        build(**arguments)
    assert message in str(caught.value)


def test_an_argument_that_is_not_known_is_python_s_error():
    with pytest.raises(TypeError, match="num_latent"):
        build(num_latent=3)
