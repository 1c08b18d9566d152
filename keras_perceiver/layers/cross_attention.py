import keras
from keras import ops

from keras_perceiver._checks import require, require_one_of, require_positive
from keras_perceiver.attention import ByteProjection, at_least_float32
from keras_perceiver.attention_weights import attention_weights
from keras_perceiver.byte_arrays import check, num_channels, segments
from keras_perceiver.implementations import (
    IMPLEMENTATIONS,
    Problem,
    choose_implementation,
    cost,
    cross_attention,
    default_memory_budget,
    largest_row,
)
from keras_perceiver.layers._linear import LAYER_NORM_EPSILON, PACKAGE, layer_norm, linear
from keras_perceiver.layers.mlp import MLP


@keras.saving.register_keras_serializable(package=PACKAGE)
class CrossAttention(keras.layers.Layer):
    """Lets the latents attend to the byte array, then passes them through an MLP.

    The bottleneck of the Perceiver: N queries from the latents meet M keys and values from the
    input, O(M·N) instead of the O(M²) of self-attention::

        q, k, v = Q(LayerNorm(latents)), K(LayerNorm(bytes)), V(LayerNorm(bytes))
        latents = latents + O(softmax(q kᵀ / sqrt(head_dim)) v)
        latents = latents + MLP(LayerNorm(latents))

    Queries, keys and values have as many channels as the byte array, all heads together, unless
    `head_dim` says otherwise. Scores, softmax and everything about positions are computed in at
    least float32, whatever the dtype policy.

    A masked byte has no influence, not even where it holds a NaN. An example whose bytes are all masked attends to
    nothing: its result before the linear map O is zero.

    Args:
        num_heads: h, 1 in the paper; must divide C unless `head_dim` is given.
        head_dim: k, channels per head of queries, keys and values; None for C / h.
        widening_factor: of the MLP.
        implementation: how the attention is computed, with the same weights and the same result. `"dense"`: the
            textbook form. `"absorbed"`: without keys and values. `"factored"`: without the byte array, in
            blocks. `"auto"`: the one that is expected to be the fastest, see `choose_implementation`. It is
            chosen for the shapes of each call; where the batch is open, for one example, as `describe_cost` tells.
        memory_budget: bytes that the temporaries of one block may take in the last two, for a whole
            batch; None for 8 MiB, which stay in the cache of a processor, or 1 GiB where Keras' backend
            computes on a GPU. At least one row of the last index axes of one example must fit.

    Call arguments:
        latents: (B, N, D).
        byte_array: a segment, `{modality: segment}` or a (B, M, C) tensor, see
            `keras_perceiver.layers`.

    Returns:
        (B, N, D) in the compute dtype.

    Raises:
        InputError: where `num_heads` does not divide C and no `head_dim` is given, there is but one
            channel, shapes of the factors do not fit each other, a mask is not boolean, or
            `memory_budget` is too small for one row.

    Example:

    >>> latents = keras.ops.ones((2, 16, 32))
    >>> segment = FourierPositions(num_bands=4)(keras.ops.ones((2, 8, 8, 3)))
    >>> tuple(CrossAttention()(latents, segment).shape)
    (2, 16, 32)

    Reference: Jaegle et al. 2021, section 3.1 and appendix C.
    """

    def __init__(
        self, num_heads=1, head_dim=None, widening_factor=1, implementation="auto", memory_budget=None, **kwargs
    ):
        super().__init__(autocast=False, **kwargs)
        require_positive(num_heads=num_heads, widening_factor=widening_factor)
        if head_dim is not None:
            require_positive(head_dim=head_dim)
        require_one_of(("auto", *IMPLEMENTATIONS), implementation=implementation)
        if memory_budget is not None:
            require_positive(memory_budget=memory_budget)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.widening_factor = widening_factor
        self.implementation = implementation
        self.memory_budget = memory_budget

    def build(self, latents_shape, byte_array_shape):
        channels = num_channels(byte_array_shape)
        require(
            channels >= 2,
            "`byte_array` must have at least 2 channels: the LayerNorm of one channel is the same for every byte",
            channels=channels,
            repair="Attach positions to the bytes.",
        )
        require(
            self.head_dim is not None or channels % self.num_heads == 0,
            "`num_heads` must divide the channels of the byte array where no `head_dim` is given",
            num_heads=self.num_heads,
            channels=channels,
        )
        width = self.num_heads * (self.head_dim or channels // self.num_heads)
        precise = at_least_float32(self.compute_dtype)
        self.problem = Problem(
            segments(byte_array_shape),
            latents_shape[1],
            self.num_heads,
            width,
            itemsize=8 if precise == "float64" else 4,
            memory_budget=self.memory_budget or default_memory_budget(),
        )
        self._check_budget(self.problem)
        self.chosen_implementation = self._choose(self.problem)
        latents_shape, bytes_shape = tuple(latents_shape), (None, None, channels)
        self.latent_norm = layer_norm("latent_norm", self.dtype_policy)
        self.byte_norm = layer_norm("byte_norm", precise)
        self.query = linear(width, "query", self.dtype_policy)
        self.key = linear(width, "key", precise)
        self.value = linear(width, "value", precise)
        self.attention_output = linear(latents_shape[-1], "attention_output", self.dtype_policy)
        self.mlp_norm = layer_norm("mlp_norm", self.dtype_policy)
        self.mlp = MLP(self.widening_factor, name="mlp", dtype=self.dtype_policy)
        for sublayer in (self.latent_norm, self.query, self.mlp_norm, self.mlp):
            sublayer.build(latents_shape)
        for sublayer in (self.byte_norm, self.key, self.value):
            sublayer.build(bytes_shape)
        self.attention_output.build((*latents_shape[:-1], width))

    def _check_budget(self, problem):
        require(
            self.memory_budget is None or self.memory_budget >= largest_row(problem),
            "`memory_budget` must hold the temporaries of at least one row of bytes",
            memory_budget=self.memory_budget,
            repair=f"One row needs {largest_row(problem)} bytes.",
        )

    def _choose(self, problem):
        return choose_implementation(problem) if self.implementation == "auto" else self.implementation

    def describe_cost(self):
        """The `Cost` (implementation, FLOPs, bytes of temporaries) of one example, for the shapes of `build`."""
        return cost(self.chosen_implementation, self.problem)

    def call(self, latents, byte_array):
        check(byte_array)  # again: batch and lengths that were unknown when the layer was built may be known now
        shapes = keras.tree.map_structure(lambda x: tuple(x.shape), byte_array)
        problem = self.problem._replace(segments=segments(shapes))
        self._check_budget(problem)
        latents = ops.cast(latents, self.compute_dtype)
        query = self.query(self.latent_norm(latents))  # (B, N, h·k)
        attended = self._attend(self._choose(problem), query, byte_array)  # (B, N, h·k)
        latents = latents + self.attention_output(ops.cast(attended, self.compute_dtype))
        return latents + self.mlp(self.mlp_norm(latents))

    def _attend(self, implementation, query, byte_array):
        query = ops.cast(query, at_least_float32(query.dtype))
        return cross_attention(implementation, query, byte_array, **self._settings(query.dtype))

    def _settings(self, dtype):
        """What every form of the attention has to know beside queries and bytes."""
        projection = ByteProjection(
            self.byte_norm.gamma,
            self.byte_norm.beta,
            self.key.kernel,
            self.key.bias,
            self.value.kernel,
            self.value.bias,
        )
        return {
            "projection": ByteProjection(*(ops.cast(weight, dtype) for weight in projection)),
            "num_heads": self.num_heads,
            "epsilon": LAYER_NORM_EPSILON,
            "memory_budget": self.memory_budget or default_memory_budget(),
        }

    def attention_weights(self, latents, byte_array):
        """What each latent attends to: softmax(q kᵀ / sqrt(head_dim)), the mean of the heads.

        It takes the memory of its result: whoever has many bytes asks for a few latents, `latents[:, some]`.

        Args:
            latents, byte_array: as in a call.

        Returns:
            (B, N, S_1, .., S_d) of at least float32; for several segments `{modality: (B, N, S_1, .., S_d)}`. The
            weights of a latent sum to one over all segments; a masked byte has weight zero.
        """
        check(byte_array)
        query = self.query(self.latent_norm(ops.cast(latents, self.compute_dtype)))  # (B, N, h·k)
        query = ops.cast(query, at_least_float32(query.dtype))
        weights = attention_weights(query, byte_array, **self._settings(query.dtype))
        return weights.get("", weights)

    def compute_output_spec(self, latents, byte_array):
        check(byte_array)
        return keras.KerasTensor(latents.shape, self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "widening_factor": self.widening_factor,
            "implementation": self.implementation,
            "memory_budget": self.memory_budget,
        }
