import keras

from keras_perceiver._checks import require_positive
from keras_perceiver.layers._linear import PACKAGE
from keras_perceiver.layers.self_attention import SelfAttention


@keras.saving.register_keras_serializable(package=PACKAGE)
class LatentTransformer(keras.layers.Layer):
    """A stack of self-attention layers over the latents, without a final LayerNorm.

    Its cost, O(L·N²), does not depend on the length of the input. The model applies one and
    the same latent Transformer after each cross-attend.

    Args:
        num_self_attention_layers: L.
        num_heads: h of each layer; must divide D.
        widening_factor: of each MLP.

    Call arguments:
        latents: (B, N, D).

    Returns:
        (B, N, D).

    Reference: Jaegle et al. 2021, section 3.2 and appendix C.
    """

    def __init__(self, num_self_attention_layers=6, num_heads=8, widening_factor=1, **kwargs):
        super().__init__(**kwargs)
        require_positive(
            num_self_attention_layers=num_self_attention_layers, num_heads=num_heads, widening_factor=widening_factor
        )
        self.num_self_attention_layers = num_self_attention_layers
        self.num_heads = num_heads
        self.widening_factor = widening_factor

    def build(self, latents_shape):
        self.self_attention_layers = []
        for index in range(self.num_self_attention_layers):
            name = f"self_attention_{index + 1}"
            layer = SelfAttention(self.num_heads, self.widening_factor, name=name, dtype=self.dtype_policy)
            layer.build(latents_shape)
            self.self_attention_layers.append(layer)

    def call(self, latents):
        for layer in self.self_attention_layers:
            latents = layer(latents)
        return latents

    def compute_output_shape(self, latents_shape):
        return latents_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_self_attention_layers": self.num_self_attention_layers,
            "num_heads": self.num_heads,
            "widening_factor": self.widening_factor,
        }
