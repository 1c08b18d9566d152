"""The choice among the exact forms of cross-attention, by what each of them costs."""

import re

import pytest
import tensorflow as tf

from keras_perceiver import CrossAttention
from keras_perceiver._checks import InputError

TINY = {"content": (None, 8, 8, 1), "tables": [(8, 1, 9), (1, 8, 9)]}
IMAGE = {"content": (None, 224, 224, 3), "tables": [(224, 1, 129), (1, 224, 129)]}


@pytest.mark.parametrize(
    ("latents", "byte_array", "expected"),
    [((None, 16, 32), TINY, "dense"), ((None, 512, 1024), IMAGE, "factored")],
)
def test_choice_by_cost(latents, byte_array, expected):
    layer = CrossAttention()
    layer.build(latents, byte_array)
    assert layer.chosen_implementation == layer.describe_cost().implementation == expected


@pytest.mark.parametrize(("batch", "expected"), [(None, "dense"), (1, "dense"), (32, "factored")])
def test_choice_is_made_for_the_batch_of_each_call(batch, expected, monkeypatch):
    used = []
    monkeypatch.setattr(
        "keras_perceiver.layers.cross_attention.cross_attention",
        lambda implementation, query, *args, **kwargs: (used.append(implementation), query)[1],
    )
    layer = CrossAttention()
    shapes = {"content": (None, 32, 32, 3), "tables": [(32, 1, 33), (1, 32, 33)]}
    layer.build((None, 16, 32), shapes)
    specs = {name: tf.TensorSpec((batch, *shape)) for name, shape in (("latents", (16, 32)), ("content", (32, 32, 3)))}
    tables = [tf.ones(table) for table in shapes["tables"]]
    function = tf.function(lambda latents, content: layer(latents, {"content": content, "tables": tables}))
    function.get_concrete_function(**specs)
    assert set(used) == {expected}


@pytest.mark.parametrize(("device", "loops"), [("cpu:0", True), ("gpu:0", False)])
def test_a_gpu_takes_what_a_cache_cannot_hold_in_one_block(device, loops, monkeypatch):
    monkeypatch.setattr("keras.distribution.list_devices", lambda: [device])
    layer = CrossAttention(implementation="factored")
    shapes = {"content": (1, 128, 128, 3), "tables": [(128, 1, 9), (1, 128, 9)]}
    layer.build((1, 64, 32), shapes)
    tables = [tf.ones(table) for table in shapes["tables"]]
    function = tf.function(lambda latents, content: layer(latents, {"content": content, "tables": tables}))
    graph = function.get_concrete_function(tf.TensorSpec((1, 64, 32)), tf.TensorSpec((1, 128, 128, 3))).graph
    assert bool(re.search(r'op: "\w*While"', str(graph.as_graph_def()))) == loops


def test_cost_of_an_image():
    dense, factored = CrossAttention(implementation="dense"), CrossAttention(implementation="factored")
    for layer in (dense, factored):
        layer.build((None, 512, 1024), IMAGE)
    assert dense.describe_cost().flops == 2 * (2 * 50176 * 261**2 + 2 * 50176 * 512 * 261)  # 2·(2·M·C² + 2·M·N·C)
    assert factored.describe_cost().flops < dense.describe_cost().flops / 40
    assert factored.describe_cost().temporary_bytes < dense.describe_cost().temporary_bytes / 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"implementation": "fatcored"}, "Did you mean 'factored'"),
        ({"memory_budget": 0}, "`memory_budget` must be an integer of at least 1"),
        ({"memory_budget": 100}, "One row needs 336 bytes"),  # 4 temporaries · 3 latents · 7 bytes · float32
    ],
)
def test_bad_arguments_are_refused_at_build_time(arguments, message):
    segment = {"content": (None, 5, 7, 3), "tables": [(5, 1, 2), (1, 7, 2)]}
    with pytest.raises(InputError, match=message):
        CrossAttention(**arguments).build((None, 3, 8), segment)
