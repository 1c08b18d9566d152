"""Everything of the Perceiver that owns weights or makes positions, one public class a file.

Letters, the paper's, used in every shape comment of this project:

==========  =====================================================================
B           batch
M           length of the byte array; M = S_1 · .. · S_d for a grid
S_a, d      length of index axis a, and the number of index axes
C           channels of the byte array, c of which are content
E           channels of one table of positions or of a modality vector
N, D        number of latents, and their channels
K           Fourier bands per axis
h, k        heads, and channels per head
P, X, L     blocks, cross-attends, self-attention layers of a latent Transformer
==========  =====================================================================

**A byte array travels as its factors**; the concatenated (B, M, C) array is built by the dense
reference alone. One modality is a *segment*, a dictionary of tensors::

    {
        "content": (B, S_1, .., S_d, c),          # the data
        "tables": [(s_1, .., s_d, E), ...],       # shared by all examples; s_a is S_a or 1
        "padding_mask": (B, S_1, .., S_d) bool,   # optional, True where a byte is real
        "normalized": (B, S_1, .., S_d, c + 2),   # optional, see `ByteNormalization`
    }

Byte (i_1, .., i_d) is the concatenation of its content and of each table in turn, a table with
s_a = 1 being the same all along axis a: a Fourier table varies along one axis, a modality vector
along none, learned positions along all. What differs from example to example (the positions of
a cloud of points) belongs to the content. `FourierPositions` and `LearnedPositions` make a
segment of a tensor, `ModalityEncoding` brings several segments, `{modality: segment}`, to the same
number of channels, and `CrossAttention` takes a segment, several of them, or simply a
(B, M, C) tensor.
"""

from keras_perceiver.layers.byte_normalization import ByteNormalization
from keras_perceiver.layers.concatenated_bytes import ConcatenatedBytes
from keras_perceiver.layers.cross_attention import CrossAttention
from keras_perceiver.layers.fourier_positions import FourierPositions
from keras_perceiver.layers.latent_array import LatentArray
from keras_perceiver.layers.latent_transformer import LatentTransformer
from keras_perceiver.layers.learned_positions import LearnedPositions
from keras_perceiver.layers.mlp import MLP
from keras_perceiver.layers.modality_dropout import ModalityDropout
from keras_perceiver.layers.modality_encoding import ModalityEncoding
from keras_perceiver.layers.patches import Patches
from keras_perceiver.layers.self_attention import SelfAttention

__all__ = [
    "MLP",
    "ByteNormalization",
    "ConcatenatedBytes",
    "CrossAttention",
    "FourierPositions",
    "LatentArray",
    "LatentTransformer",
    "LearnedPositions",
    "ModalityDropout",
    "ModalityEncoding",
    "Patches",
    "SelfAttention",
]
