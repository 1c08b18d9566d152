"""What an exported model answers, as functions of tensors: the same for every format."""

import functools

import keras
import numpy as np
import tensorflow as tf

from keras_perceiver._checks import require, require_one_of
from keras_perceiver.data import MODALITIES
from keras_perceiver.data.decoding import decode_examples
from keras_perceiver.data.pipeline import fields
from keras_perceiver.export.warm_up import BATCH_SIZES

EMBEDDING = "latent_mean"  # the layer of a Perceiver that takes the latent array
LATENTS = ("latent_array", EMBEDDING)
LARGE = 100e9  # FLOPs of a forward pass that takes seconds
CLIPS_AT_ONCE = 16  # of `from_bytes`, as many as our client sends of files
XLA = "serving_xla"  # the endpoint that is `serving_default` compiled


class Served:
    """A classifier with what stands before it: raw arrays, or files, in; float32 dictionaries out.

    Args:
        model: a classifier of the modality, of any dtype policy: it is served in float32.
        modality: key of `MODALITIES`.
        shape: how examples enter the model, see `Modality`; None for the shape of its one input.
        settings: dictionary of arguments of the modality's `preprocess`.
        multi_label: whether probabilities are each class' own.
    """

    def __init__(self, model, *, modality="image", shape=None, settings=None, multi_label=False):
        require_one_of(MODALITIES, modality=modality)
        require(
            shape is not None or not isinstance(model.input, dict),
            "`shape` must say how examples enter a model of several inputs, see `Modality`",
            modality=modality,
            shape=shape,
        )
        self.kind = MODALITIES[modality]
        self.shape = tuple(shape or model.input_shape[1:])
        self.settings = dict(settings or {})
        self.is_multi_label = multi_label
        self.model = in_float32(model)
        self.inputs = self.kind.served(self.shape)  # {input: (shape without batch, dtype)}
        self._preprocess = self.kind.preprocess(self.shape, **self.settings)
        self.is_perceiver = any(layer.name == EMBEDDING for layer in self.model.layers)
        outputs = {"logits": self.model.output}
        if self.is_perceiver:
            layer = self.model.get_layer(EMBEDDING)
            outputs |= {"latent_array": layer.input, "latent_mean": layer.output}
        self._outputs = keras.Model(self.model.input, outputs)

    def module(self, xla=False):
        """`(tf.Module that holds the weights, {endpoint: tf.function with its signature})`: what is to be saved.

        The model is traced once, for all endpoints but the one that XLA compiles, which is there if `xla`.
        """
        module = tf.Module()
        module.weights = [weight.value for weight in self.model.variables]
        arrays = [{n: tf.TensorSpec((None, *shape), dtype, name=n) for n, (shape, dtype) in self.inputs.items()}]
        forward = tf.function(self._forward_checked, input_signature=arrays, autograph=False)

        def serving_default(inputs):
            """Raw arrays -> `logits` and `probabilities`, (B, classes)."""
            logits = forward(inputs)["logits"]
            return {"logits": logits, "probabilities": self.probabilities(logits)}

        compiled = tf.function(self._forward_checked, input_signature=arrays, autograph=False, jit_compile=True)

        def serving_xla(inputs):
            """As `serving_default`, in batches of few sizes, for each of which XLA compiles when it is first asked."""
            count = tf.shape(next(iter(inputs.values())))[0]
            filled = {name: _with_rows(x, _compiled_size(count)) for name, x in inputs.items()}
            logits = compiled(filled)["logits"][:count]
            return {"logits": logits, "probabilities": self.probabilities(logits)}

        def in_blocks(clips):
            """The logits of any number of clips, of which a file may have `MAX_CLIPS`, in the memory of a few."""

            def block(start, logits):
                some = {name: clip[start : start + CLIPS_AT_ONCE] for name, clip in clips.items()}
                return start + CLIPS_AT_ONCE, tf.concat([logits, forward(some)["logits"]], axis=0)

            logits = tf.zeros((0, self.model.output_shape[-1]))
            shapes = (tf.TensorShape([]), tf.TensorShape([None, logits.shape[1]]))
            count = tf.shape(next(iter(clips.values())))[0]
            found = tf.while_loop(lambda start, _: start < count, block, (0, logits), shapes, parallel_iterations=1)
            return found[1]

        def from_bytes(inputs):
            """Encoded files -> `logits` and `probabilities`, (B, classes), and `valid`, (B,) bool."""
            files = tf.ensure_shape(inputs["encoded"], (None,))  # a server looks at no shape by itself
            clips, exists, valid = decode_examples(*self.kind.decoder(self.shape), files)
            clips = {name: tf.boolean_mask(clip, exists) for name, clip in clips.items()}
            logits = in_blocks(clips) if exists.shape[1] > 1 else forward(clips)["logits"]
            file = tf.where(exists)[:, 0]  # of each clip
            logits = tf.math.unsorted_segment_mean(logits, file, tf.size(valid))
            return {
                "logits": logits,
                "probabilities": tf.where(valid[:, None], self.probabilities(logits), 0.0),
                "valid": valid,
            }

        def embed(inputs):
            """Raw arrays -> `latent_array`, (B, N, D), and `latent_mean`, (B, D)."""
            answer = forward(inputs)
            return {name: answer[name] for name in LATENTS}

        endpoints = {"serving_default": tf.function(serving_default, input_signature=arrays, autograph=False)}
        if self.kind.decoder is not None:
            files = [{"encoded": tf.TensorSpec((None,), tf.string, name="encoded")}]
            endpoints["from_bytes"] = tf.function(from_bytes, input_signature=files, autograph=False)
        if self.is_perceiver:
            endpoints["embed"] = tf.function(embed, input_signature=arrays, autograph=False)
        if xla:
            endpoints[XLA] = tf.function(serving_xla, input_signature=arrays, autograph=False)
        return module, endpoints

    @functools.cached_property
    def is_large(self):
        """Whether one answer of the model takes long."""
        from keras_perceiver.inspection import describe_model  # which draws runs, and those import this package

        return describe_model(self.model).flops >= LARGE

    def forward(self, inputs):
        """Raw arrays -> `logits`, and of a Perceiver `latent_array` and `latent_mean`; all in float32."""
        entering = self._preprocess(inputs if len(inputs) > 1 else next(iter(inputs.values())))
        answer = self._outputs(entering, training=False)
        return {name: tf.cast(value, tf.float32) for name, value in answer.items()}

    def _forward_checked(self, inputs):
        """As `forward`; a server checks types alone, and what has another shape might pass as another batch."""
        return self.forward({n: tf.ensure_shape(x, (None, *self.inputs[n][0])) for n, x in inputs.items()})

    def probabilities(self, logits):
        """Of each class, (B, classes)."""
        return tf.nn.sigmoid(logits) if self.is_multi_label else tf.nn.softmax(logits)

    def describe_inputs(self):
        """What arrays it takes, as JSON holds it: `{input: {"shape" of one example, "dtype", "range", "sample_rate"}}`,
        the last two where there are such."""
        found = {name: {"shape": list(shape), "dtype": dtype} for name, (shape, dtype) in self.inputs.items()}
        for name, bounds in ranges(self.kind, self.shape).items():
            found[name] |= {} if None in bounds else {"range": list(bounds)}
        if "samples" in found:
            found["samples"]["sample_rate"] = self.shape[-2]  # (.., window, rate, kept)
        return found

    def describe(self, endpoints):
        """What each endpoint takes and answers, one line for people: `{endpoint: line}`."""

        def in_words(name, known):
            words = f"`{name}` ({', '.join(map(str, ['B', *known['shape']]))}) {known['dtype']}"
            words += f" in {known['range']}" if "range" in known else ""
            return words + (f" at {known['sample_rate']:,} Hz" if "sample_rate" in known else "")

        arrays = ", ".join(in_words(name, known) for name, known in self.describe_inputs().items())
        files = "JPEG, PNG, GIF, BMP or WebP" if self.kind.name == "image" else "WAV"
        lines = {
            "serving_default": f"{arrays} -> `logits`, `probabilities` (B, classes)",
            "from_bytes": f"`encoded` (B) strings, {files} files -> the same, and `valid` (B): which could be read",
            "embed": f"{arrays} -> `latent_array` (B, N, D), `latent_mean` (B, D)",
            XLA: f"{arrays} -> `logits`, `probabilities` (B, classes), compiled by XLA",
        }
        return {name: line for name, line in lines.items() if name in endpoints}

    def noise(self, count):
        """`noise` for this model."""
        return noise(self.kind, self.shape, count)

    def files(self, examples):
        """Files as `from_bytes` takes them, one for each of these raw examples: a list of bytes."""
        count = len(next(iter(examples.values())))
        return [self.kind.encode({n: x[i] for n, x in examples.items()}, self.shape) for i in range(count)]


def write_endpoints(folder, module, endpoints):
    """Writes what `Served.module` gives as a SavedModel, without its gradients.

    Nobody asks an export for them, and to trace them takes longer than all the rest.
    """
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, folder, signatures=endpoints, options=options)


def _compiled_size(count):
    """The smallest of `BATCH_SIZES` that holds so many examples, or a multiple of the largest."""
    most = BATCH_SIZES[-1]
    return tf.reduce_min(tf.where(count <= BATCH_SIZES, BATCH_SIZES, (count + most - 1) // most * most))


def _with_rows(x, count):
    """(B, ..) with rows of zeros behind it, `count` in all."""
    return tf.concat([x, tf.zeros([count - tf.shape(x)[0], *x.shape[1:]], x.dtype)], axis=0)


def ranges(kind, shape):
    """`{input: (low, high)}` of the numbers that a model takes; None for any. What comes second is sound."""
    names = [name for name, (_, dtype) in kind.served(shape).items() if dtype == "float32"]
    return dict(zip(names, (kind.range, (-1, 1)), strict=False))


def noise(kind, shape, count, seed=0):
    """`{input: (count, ..)}` of no meaning, for where there are no examples: uniform, and nothing masked."""
    rng, made, bounds = np.random.default_rng(seed), {}, ranges(kind, shape)
    for name, (size, dtype) in kind.served(shape).items():
        if dtype == "float32":
            low, high = bounds[name]
            made[name] = rng.uniform(-1 if low is None else low, high or 1, (count, *size)).astype(dtype)
            length = size[0]
        else:  # a mask, or how long each example of the array before it is
            whole = True if dtype == "bool" else length
            made[name] = np.full((count, *size), whole, dtype)
    return made


def read_clips(kind, shape, file, **options):
    """One file as a model is asked about it: `{input: (K, ..)}`, its K clips, or the whole of it. Clips are spread over
    files that are longer than those of training too."""
    if kind.read_whole is None:
        example = kind.read(file, shape, **options)
    else:
        example, shape = kind.read_whole(file, shape)
    example = fields(example)
    count = 1 if kind.clip is None else kind.count_of(example, shape)
    parts = [example if kind.clip is None else kind.clip(example, shape, number, count) for number in range(count)]
    parts = [part if isinstance(part, dict) else {next(iter(kind.served(shape))): part} for part in parts]
    return {name: tf.cast(tf.stack([p[name] for p in parts]), dtype) for name, (_, dtype) in kind.served(shape).items()}


def in_float32(model):
    """The model in float32, with the same weights; itself where it is so already.

    Mixed precision is a matter of training: a server's processor may not know bfloat16, and LiteRT converts none.
    """
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    policies = [policy for policy in _policies(config) if "float" in policy["name"]]
    if all(policy["name"] == "float32" for policy in policies):
        return model
    for policy in policies:
        policy["name"] = "float32"
    twin = keras.saving.deserialize_keras_object(config)
    twin.set_weights([np.asarray(tf.cast(tf.convert_to_tensor(weight), tf.float32)) for weight in model.weights])
    return twin


def _policies(config):
    """The configuration, `{"name": ..}`, of every dtype policy in a serialised object."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            yield config["config"]
        for value in config.values():
            yield from _policies(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _policies(value)
