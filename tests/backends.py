"""The numbers of small models on the Keras backend at hand: `KERAS_BACKEND=jax python -m tests.backends FOLDER`.

Leaves `<backend>.npz`, with outputs, gradients and what training makes of a model, and `<backend>.keras` in the folder;
records what models that other backends have left there answer. `test_backends.py` compares.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_perceiver import build_classifier
from tests.benchmarks.measuring import MODES, backend, compiled, gradients
from tests.layer_checks import SMALL_MODEL, randomise

CLASSES = 13
SHAPES = {"picture": (7, 5, 3), "modalities": {"video": (3, 2, 5, 3), "audio": (11, 5)}}
POSITIONS = {"picture": "fourier", "modalities": "learned"}
FORMS = {"picture": ("factored",), "modalities": ("dense", "absorbed")}
ONE_CROSS_ATTEND = {"num_blocks": 1, "num_cross_attends": 1}  # all that the forms differ in, at half the compilation
SETTINGS = {**SMALL_MODEL, **ONE_CROSS_ATTEND, "position_channels": 5, "padding_mask": True}
BLOCK_BYTES = 1100  # so little that the walk over blocks has a loop and a rest


def inputs_of(shape):
    """Batch of 2 with NaN where the mask is False; the second example has nothing that is real."""
    rng = np.random.default_rng(3)
    inputs = {}
    for name, size in (shape if isinstance(shape, dict) else {"inputs": shape}).items():
        mask = rng.random((2, *size[:-1])) < 0.7
        mask[1] = False
        content = rng.normal(size=(2, *size)).astype("float32")
        inputs |= {name: np.where(mask[..., None], content, np.nan), f"{name}_padding_mask": mask}
    return inputs


def forward_and_gradients():
    """`{name: array}` of logits, and of the gradient of every weight, for the forms of each kind of input."""
    found = {}
    for kind, form in ((kind, form) for kind, forms in FORMS.items() for form in forms):
        budget = {} if form == "dense" or kind != "picture" else {"cross_attention_memory_budget": BLOCK_BYTES}
        model = build_classifier(
            SHAPES[kind], CLASSES, positions=POSITIONS[kind], cross_attention_implementation=form, **SETTINGS, **budget
        )
        randomise(model)
        inputs = {name: ops.convert_to_tensor(value) for name, value in inputs_of(SHAPES[kind]).items()}
        first = next(iter(inputs))
        weight = ops.convert_to_tensor(np.random.default_rng(4).normal(size=(2, CLASSES)).astype("float32"))

        def loss(content, model=model, inputs=inputs, first=first, weight=weight):
            return ops.sum(model({**inputs, first: content}) * weight)

        def step(content, loss=loss, model=model, inputs=inputs, first=first):
            return model({**inputs, first: content}), gradients(loss, [content], model.trainable_variables)

        logits, slopes = compiled(step, MODES[backend()][0])(inputs[first])
        where = f"{kind}/{form}"
        found[f"{where}/logits"] = logits
        found[f"{where}/gradient/{first}"] = slopes[0]
        found |= {f"{where}/gradient/{w.path}": s for w, s in zip(model.trainable_variables, slopes[1:], strict=True)}
    return {name: ops.convert_to_numpy(value) for name, value in found.items()}


def small_classifier():
    """A model with everything that a file has to keep, and examples for it."""
    settings = {**SMALL_MODEL, "positions": "learned", "position_channels": 5}
    model = randomise(build_classifier(SHAPES["picture"], CLASSES, **settings))
    rng = np.random.default_rng(5)
    return model, rng.normal(size=(17, *SHAPES["picture"])).astype("float32"), rng.integers(CLASSES, size=17)


def training():
    """`{name: array}` of losses and weights of two epochs of `fit`."""
    model, x, y = small_classifier()
    model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0).history
    weights = {f"fit/{w.path}": ops.convert_to_numpy(w.value) for w in model.weights}
    return {"fit/losses": np.array(history["loss"]), **weights}


def record(folder):
    """Writes everything into the folder; returns it too."""
    found = forward_and_gradients() | training()
    model, x, _ = small_classifier()
    found["answers"] = model.predict(x, verbose=0)
    for file in Path(folder).glob("*.keras"):
        found[f"answers of {file.stem}"] = keras.saving.load_model(file).predict(x, verbose=0)
    model.save(Path(folder) / f"{backend()}.keras")
    np.savez(Path(folder) / f"{backend()}.npz", **found)
    return found


if __name__ == "__main__":
    record(sys.argv[1])
