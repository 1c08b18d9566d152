"""What every layer must do, in one function: `check_layer`."""

import contextlib
import inspect

import keras
import numpy as np
import pytest
from keras import ops, tree

BATCH = 2

# Arguments of `build_encoder` for a model that builds in a third of a second: N = 3, D = 2·11.
SMALL_MODEL = {
    "num_bands": 3,
    "num_latents": 3,
    "latent_dim": 22,
    "num_blocks": 2,
    "num_cross_attends": 2,
    "num_self_attention_layers": 1,
    "num_self_attention_heads": 2,
}


def thorough(*values):
    """Values of a parameter that are tried with `pytest --thorough` alone."""
    return [pytest.param(value, marks=pytest.mark.thorough) for value in values]


def check_layer(
    tmp_path, layer_class, arguments, inputs, *, precise=(), cancelled=(), output_dtypes=None, float64_tolerance=1e-5
):
    """Proves the contract of a layer.

    Args:
        tmp_path: a folder for the saved model.
        layer_class: the class.
        arguments: a value for every argument of its constructor; better not the default.
        inputs: `{call argument: structure of NumPy arrays}`; all but tables start with the batch.
        precise: names of sublayers that stay in at least float32 under every policy.
        cancelled: names of weights, or `(name, slice of its last axis)`, which a softmax cancels:
            their gradient must be 0.
        output_dtypes: function from the compute dtype to the list of dtypes of the outputs, which
            are fed float32; None where all have the compute dtype.
        float64_tolerance: largest difference of outputs between float32 and float64.
    """
    check_config(layer_class, arguments, inputs)
    check_symbolic(layer_class, arguments, inputs)
    check_compiled(layer_class, arguments, inputs)
    check_saving(tmp_path, layer_class, arguments, inputs)
    check_dtypes(layer_class, arguments, inputs, precise, output_dtypes, float64_tolerance)
    check_gradients(layer_class, arguments, inputs, cancelled)


def check_config(layer_class, arguments, inputs):
    """`get_config` gives the constructor's arguments, built or not, and `from_config` takes them."""
    names = set(inspect.signature(layer_class.__init__).parameters) - {"self", "kwargs"}
    assert set(arguments) == names, "the test must give every argument"
    layer = layer_class(**arguments, name="layer")
    fresh = layer.get_config()
    assert set(fresh) - {"name", "trainable", "dtype"} == names
    assert {name: fresh[name] for name in names} == arguments
    layer(**tensors(inputs))
    assert layer.get_config() == fresh, "building changed the configuration"
    assert layer_class.from_config(fresh).get_config() == fresh


def check_symbolic(layer_class, arguments, inputs):
    """Shapes and dtypes are known before there is data, and are the right ones."""
    layer = layer_class(**arguments, name="layer")
    eager = layer(**tensors(inputs))
    symbolic = layer(**symbols(inputs))
    tree.assert_same_structure(eager, symbolic)
    for known, found in zip(tree.flatten(symbolic), tree.flatten(eager), strict=True):
        assert keras.backend.standardize_dtype(found.dtype) == known.dtype
        assert len(known.shape) == len(found.shape)
        for k, f in zip(known.shape, found.shape, strict=True):
            assert k == f or (k is None and f == BATCH), f"symbolic {known.shape}, eager {found.shape}"


def check_compiled(layer_class, arguments, inputs):
    """Eager, a graph with an open batch dimension, and XLA compute the same."""
    import tensorflow as tf  # here, so that the rest of this module serves on any backend

    layer = randomised(layer_class(**arguments, name="layer"), inputs)
    eager = layer(**tensors(inputs))
    flat = tree.flatten(tensors(inputs))

    def call(*leaves):
        return layer(**tree.pack_sequence_as(inputs, list(leaves)))

    open_batch = [tf.TensorSpec(s.shape, s.dtype) for s in tree.flatten(symbols(inputs))]
    assert_close(tf.function(call, input_signature=open_batch)(*flat), eager, 1e-5)
    assert_close(tf.function(call, jit_compile=True)(*flat), eager, 1e-5)


def check_saving(tmp_path, layer_class, arguments, inputs):
    """A functional model with the layer survives `.keras` in safe mode: same outputs, same configuration."""
    layer = layer_class(**arguments, name="layer")
    symbolic = symbols(inputs)
    model = keras.Model(tree.flatten(symbolic), layer(**symbolic))
    randomise(model)
    path = tmp_path / f"{layer_class.__name__}.keras"
    model.save(path)
    loaded = keras.saving.load_model(path, safe_mode=True)
    assert loaded.get_layer("layer").get_config() == layer.get_config()
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    flat = tree.flatten(tensors(inputs))
    assert_close(loaded(flat), model(flat), 1e-6)


def check_dtypes(layer_class, arguments, inputs, precise, output_dtypes, float64_tolerance):
    """A dtype policy reaches every sublayer and the outputs, which stay near those of float32."""
    reference = randomised(layer_class(**arguments, name="layer"), inputs)
    expected = reference(**tensors(inputs))
    for name, tolerance in (("mixed_bfloat16", 0.1), ("bfloat16", 0.1), ("float64", float64_tolerance)):
        policy = keras.DTypePolicy(name)
        layer = layer_class(**arguments, name="layer", dtype=name)
        outputs = layer(**tensors(inputs))
        for sublayer in layer._flatten_layers():
            longest = name if name == "float64" else "float32"
            compute, variable = (
                (longest, longest) if sublayer.name in precise else (policy.compute_dtype, policy.variable_dtype)
            )
            assert (sublayer.compute_dtype, sublayer.variable_dtype) == (compute, variable), sublayer.path
            assert {w.dtype for w in sublayer._trainable_variables} <= {variable}, sublayer.path
        found = [keras.backend.standardize_dtype(x.dtype) for x in tree.flatten(outputs)]
        if output_dtypes is None:
            assert set(found) == {policy.compute_dtype}
        else:
            assert found == output_dtypes(policy.compute_dtype)
        layer.set_weights([ops.convert_to_numpy(w.value) for w in reference.weights])
        assert_close(layer(**tensors(inputs)), expected, tolerance)


def check_gradients(layer_class, arguments, inputs, cancelled):
    """Every entry of every weight has a gradient, save those that a softmax cancels."""
    import tensorflow as tf

    layer = randomised(layer_class(**arguments, name="layer", dtype="float64"), inputs)
    with tf.GradientTape() as tape:
        loss = random_projection(layer(**tensors(inputs)))
    assert_gradients(layer.trainable_weights, tape.gradient(loss, layer.trainable_weights), cancelled)


def assert_gradients(weights, gradients, cancelled=()):
    """No entry of a (float64) gradient is zero; those that `cancelled` names at the end of their path all are."""
    cancelled = dict((c, slice(None)) if isinstance(c, str) else c for c in cancelled)
    seen = set()
    for weight, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None, f"{weight.path} has no gradient"
        live = np.abs(ops.convert_to_numpy(gradient)) > 1e-11
        expected = np.ones_like(live)
        for name, part in cancelled.items():
            if weight.path.endswith("/" + name):
                expected[..., part] = False
                seen.add(name)
        np.testing.assert_array_equal(live, expected, err_msg=f"entries of {weight.path} with a gradient")
    assert seen == set(cancelled), "a name of a cancelled weight fits none"


# Help


def symbols(inputs):
    """`keras.Input`s like the arrays, with an open batch dimension; tables have none."""

    def symbol(path, array):
        batch_shape = array.shape if "tables" in path else (None, *array.shape[1:])
        return keras.Input(batch_shape=batch_shape, dtype=array.dtype.name)

    return tree.map_structure_up_to(inputs, symbol, tree_paths(inputs), inputs)


def tree_paths(structure):
    """The structure with each leaf replaced by the string of keys that leads to it."""
    paths = ["/".join(map(str, path)) for path, _ in tree.flatten_with_path(structure)]
    return tree.pack_sequence_as(structure, paths)


def tensors(inputs):
    return tree.map_structure(ops.convert_to_tensor, inputs)


def randomised(layer, inputs):
    """The layer, built for these inputs and with random weights."""
    layer(**tensors(inputs))
    return randomise(layer)


def randomise(layer, seed=7):
    """Gives every weight of a layer or model random values of a healthy size, those that start at 0 or 1 too."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        kind = weight.path.rpartition("/")[2]
        value = rng.normal(size=weight.shape)
        if kind == "kernel":
            value /= np.sqrt(weight.shape[0])
        elif kind in ("bias", "beta"):
            value *= 0.5
        elif kind == "gamma":
            value = 1 + 0.3 * value
        elif kind == "moving_variance":
            value = 0.5 + value**2
        weight.assign(value)
    return layer


def random_projection(outputs, seed=11):
    """A scalar that every entry of every floating output moves, each by another factor."""
    rng = np.random.default_rng(seed)
    terms = []
    for x in tree.flatten(outputs):
        if "float" in keras.backend.standardize_dtype(x.dtype):
            terms.append(ops.sum(ops.cast(x, "float64") * rng.normal(size=x.shape)))
    return sum(terms)


def assert_close(actual, expected, tolerance):
    """Equality of structures of tensors up to `tolerance`, in units of the largest value or of 1."""
    tree.assert_same_structure(actual, expected)
    for a, e in zip(tree.flatten(actual), tree.flatten(expected), strict=True):
        a, e = (ops.convert_to_numpy(ops.cast(x, "float64")) for x in (a, e))
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(1.0, np.abs(e).max(initial=0.0)))


@contextlib.contextmanager
def shapes_only():
    """Models built in here have shapes and names of weights, but no memory is taken for their values."""
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        keras.utils.clear_session()  # otherwise Keras would initialise them all at the next occasion
