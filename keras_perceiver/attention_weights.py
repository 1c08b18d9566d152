"""The weights themselves with which queries attend to the bytes: what is drawn as a map, never what a model computes.

Attention needs the sums over the bytes alone, and the forms that work on factors keep nothing of size N x M. Who wants
to look at the weights of a few queries gets them here from the same factors: no byte array, no keys, and the heads of a
query in one block of bytes at a time.
"""

from keras import ops

from keras_perceiver import byte_arrays
from keras_perceiver._blocks import block_lengths, map_blocks
from keras_perceiver.absorbed import Segment, absorb_keys
from keras_perceiver.factored import block_of_query, block_of_rows, forward, scores


def attention_weights(query, byte_array, projection, *, num_heads, epsilon, memory_budget):
    """`softmax(Q Kᵀ / sqrt(k))`, the mean of the heads.

    Args:
        query, projection, num_heads, epsilon: see `attention.dense_cross_attention`.
        byte_array: see `keras_perceiver.layers`.
        memory_budget: bytes that the temporaries of one block of bytes may take.

    Returns:
        `{modality: (B, N, S_1, .., S_d)}`, "" for a lone segment. Each query's weights sum to one over all modalities;
        a masked byte has weight zero, and so have all bytes of an example whose every byte is masked.
    """
    g = absorb_keys(query, projection, num_heads)  # (B, h·N, C)
    segments = {name: Segment(s, g.dtype, epsilon) for name, s in byte_arrays.segments(byte_array).items()}
    queries, rows = [s.query(g) for s in segments.values()], [s.rows for s in segments.values()]
    blocks = block_lengths(queries, rows, memory_budget)
    _, top, inverse_total = forward(queries, rows, blocks)  # (B, h·N)
    batch, num_queries = ops.shape(query)[:2]
    weights = {}
    for (name, segment), *parts in zip(segments.items(), queries, rows, blocks, strict=True):
        found = _mean_of_heads(*parts, top, inverse_total, num_heads)  # (B, N, P, Q)
        weights[name] = ops.reshape(found, (batch, num_queries, *segment.sizes))
    return weights


def _mean_of_heads(query, rows, block, top, inverse_total, num_heads):
    """The weights of one segment: (B, N, P, Q)."""
    outer, inner = ops.shape(rows["content"])[1:3]
    batch, heads_and_queries = ops.shape(top)

    def of_block(start, size):
        score = scores(block_of_query(query, start, size), block_of_rows(rows, start, size))  # (B, h·N, p, Q)
        weights = ops.exp(score - top[..., None, None]) * inverse_total[..., None, None]
        weights = ops.reshape(weights, (batch, num_heads, heads_and_queries // num_heads, size, inner))
        return {"weights": ops.transpose(ops.mean(weights, axis=1), (2, 0, 1, 3))}  # (p, B, N, Q)

    return ops.transpose(map_blocks(of_block, outer, block)["weights"], (1, 2, 0, 3))
