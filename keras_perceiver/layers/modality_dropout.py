import keras
from keras import ops

from keras_perceiver._checks import require
from keras_perceiver.layers._linear import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class ModalityDropout(keras.layers.Layer):
    """Zeroes the whole stream of a modality for some examples, while training.

    So a model that could do with the easier one of two modalities learns to use the other one. Unlike Keras' `Dropout`
    it takes all of an example or nothing, and what is left is not scaled.

    Args:
        rate: probability in (0, 1) that the stream of an example is zeroed.

    Call arguments:
        content: (B, S_1, .., S_d, c) float.
        training: whether anything is dropped.

    Returns:
        (B, S_1, .., S_d, c), of the dtype of the content.

    Raises:
        InputError: where `rate` is outside (0, 1).

    Example:

    >>> layer = ModalityDropout(rate=0.3)
    >>> tuple(layer(keras.ops.ones((2, 5, 7, 3)), training=True).shape)
    (2, 5, 7, 3)

    Reference: Jaegle et al. 2021, section 4.2: video beside audio, with a rate of 0.3.
    """

    def __init__(self, rate=0.3, **kwargs):
        super().__init__(autocast=False, **kwargs)
        require(isinstance(rate, float) and 0 < rate < 1, "`rate` must be a number in (0, 1)", rate=rate)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    def call(self, content, training=False):
        if not training:
            return content
        axes = len(content.shape) - 1
        draws = keras.random.uniform((ops.shape(content)[0], *([1] * axes)), seed=self.seed_generator)
        return ops.where(draws >= self.rate, content, ops.zeros_like(content))

    def compute_output_spec(self, content, training=False):
        return keras.KerasTensor(content.shape, content.dtype)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
