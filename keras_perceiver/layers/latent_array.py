import keras
from keras import ops

from keras_perceiver._checks import require_above, require_positive
from keras_perceiver.byte_arrays import segments
from keras_perceiver.layers._linear import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class LatentArray(keras.layers.Layer):
    """The learned latent array, repeated for each example of a batch.

    N learned vectors of D channels through which everything that the model knows of its input has to pass:
    N is far smaller than M, which makes attention to the input linear in M and lets the
    latent Transformer be as deep as one likes.

    Args:
        num_latents: N.
        latent_dim: D.
        initial_std: standard deviation before truncation at two of them (0.0176 after). 0.1 diverged
            in the paper.

    Call arguments:
        byte_array: what the latents will attend to; only its batch size is used.

    Returns:
        (B, N, D) in the compute dtype.

    Example:

    >>> tuple(LatentArray(num_latents=512, latent_dim=1024)(keras.ops.zeros((2, 50, 3))).shape)
    (2, 512, 1024)

    Reference: Jaegle et al. 2021, section 3.2 and appendix C.
    """

    def __init__(self, num_latents, latent_dim, initial_std=0.02, **kwargs):
        super().__init__(autocast=False, **kwargs)
        require_positive(num_latents=num_latents, latent_dim=latent_dim)
        require_above(0, initial_std=initial_std)
        self.num_latents = num_latents
        self.latent_dim = latent_dim
        self.initial_std = initial_std

    def build(self, byte_array_shape):
        self.latent_array = self.add_weight(
            shape=(self.num_latents, self.latent_dim),
            initializer=keras.initializers.TruncatedNormal(stddev=self.initial_std),
            name="latent_array",
        )

    def call(self, byte_array):
        content = next(iter(segments(byte_array).values()))["content"]
        latents = ops.cast(self.latent_array, self.compute_dtype)
        return ops.broadcast_to(latents, (ops.shape(content)[0], self.num_latents, self.latent_dim))

    def compute_output_spec(self, byte_array):
        content = next(iter(segments(byte_array).values()))["content"]
        return keras.KerasTensor((content.shape[0], self.num_latents, self.latent_dim), self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "num_latents": self.num_latents,
            "latent_dim": self.latent_dim,
            "initial_std": self.initial_std,
        }
