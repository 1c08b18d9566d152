import keras

from keras_perceiver._checks import require, require_positive
from keras_perceiver.attention import self_attention
from keras_perceiver.layers._linear import PACKAGE, layer_norm, linear
from keras_perceiver.layers.mlp import MLP


@keras.saving.register_keras_serializable(package=PACKAGE)
class SelfAttention(keras.layers.Layer):
    """One layer of the latent Transformer: self-attention and MLP, each behind a LayerNorm.

    `x = x + Attention(LayerNorm(x)); x = x + MLP(LayerNorm(x))`. Queries, keys and values come from
    one kernel of (D, 3D): the same weights as three of (D, D), in one product.

    Args:
        num_heads: h; must divide the channels D of the latents.
        widening_factor: of the MLP.

    Call arguments:
        latents: (B, N, D).
        padding_mask: optional (B, N) bool, True where a row is real: others are attended to by none. The latents of a
            Perceiver all are; the bytes of a Transformer may not be.

    Returns:
        (B, N, D).

    Raises:
        InputError: where `num_heads` does not divide D.

    Reference: Jaegle et al. 2021, section 3.2 and appendix C.
    """

    def __init__(self, num_heads=8, widening_factor=1, **kwargs):
        super().__init__(**kwargs)
        require_positive(num_heads=num_heads, widening_factor=widening_factor)
        self.num_heads = num_heads
        self.widening_factor = widening_factor

    def build(self, latents_shape, padding_mask_shape=None):
        channels = latents_shape[-1]
        require(
            channels % self.num_heads == 0,
            "`num_heads` must divide the channels of the latents",
            num_heads=self.num_heads,
            latent_dim=channels,
        )
        self.attention_norm = layer_norm("attention_norm", self.dtype_policy)
        self.query_key_value = linear(3 * channels, "query_key_value", self.dtype_policy)
        self.attention_output = linear(channels, "attention_output", self.dtype_policy)
        self.mlp_norm = layer_norm("mlp_norm", self.dtype_policy)
        self.mlp = MLP(self.widening_factor, name="mlp", dtype=self.dtype_policy)
        for sublayer in (self.attention_norm, self.query_key_value, self.attention_output, self.mlp_norm, self.mlp):
            sublayer.build(latents_shape)

    def call(self, latents, padding_mask=None):
        query_key_value = self.query_key_value(self.attention_norm(latents))
        latents = latents + self.attention_output(self_attention(query_key_value, self.num_heads, padding_mask))
        return latents + self.mlp(self.mlp_norm(latents))

    def compute_output_shape(self, latents_shape, padding_mask_shape=None):
        return latents_shape

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "widening_factor": self.widening_factor}
