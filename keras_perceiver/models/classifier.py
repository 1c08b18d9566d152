"""The Perceiver classifier: encoder, mean over the latents, one linear map."""

import keras

from keras_perceiver._checks import require_positive
from keras_perceiver.models.encoder import build_encoder, with_policy


def build_classifier(input_shape, num_classes, *, name="perceiver_classifier", dtype=None, **encoder_arguments):
    """Builds a Perceiver classifier; the defaults are the paper's ImageNet model.

    Args:
        input_shape: (S_1, .., S_d, c) of one example, or `{modality: (S_1, .., S_d, c)}`.
        num_classes: number of logits.
        name: of the model.
        dtype: dtype policy of all layers; None for Keras' global policy. Logits are at least float32.
        **encoder_arguments: see `build_encoder`.

    Returns:
        A functional `keras.Model`: inputs -> (B, num_classes) logits. The head starts at zero, so the
        logits of a fresh model are all zero.

    Raises:
        InputError: where an argument is out of its range or two contradict each other.

    Example:

    >>> model = build_classifier((224, 224, 3), num_classes=1000)
    >>> model.count_params()
    44912254

    Reference: Jaegle et al. 2021, section 3 and appendix C; the zero head, DeepMind's code.
    """
    require_positive(num_classes=num_classes)
    encoder = build_encoder(input_shape, dtype=dtype, **encoder_arguments)
    pooled = keras.layers.GlobalAveragePooling1D(name="latent_mean", dtype=dtype)(encoder.output)  # (B, D)
    head = keras.layers.Dense(num_classes, kernel_initializer="zeros", name="logits", dtype=logits_dtype(dtype))
    return with_policy(keras.Model(encoder.input, head(pooled), name=name), dtype)


def logits_dtype(dtype):
    """Logits leave the model in at least float32: the loss and every server need them so."""
    policy = keras.dtype_policies.get(dtype) if dtype is not None else keras.config.dtype_policy()
    return keras.DTypePolicy("float32") if "16" in policy.compute_dtype else policy
