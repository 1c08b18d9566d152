"""Cross-attention without keys, values or byte array: the exact forms that work on factors.

With `x̂_m` the normalised byte m before LayerNorm's scale γ and offset β, its key is `W_kᵀ(γ∘x̂_m + β) + b_k`. Its score
with a query q is `g·x̂_m` plus a term that is the same for all bytes, which the softmax cancels, where `g = γ∘(W_k q) /
sqrt(k)`. Likewise `Σ_m p_m v_m = W_vᵀ(γ∘z + β P) + b_v P` with `z = Σ_m p_m x̂_m` and `P = Σ_m p_m`. The projections are
applied to N queries and N results, never to M bytes.

What is left, from g to z, is a softmax over x̂ itself, and x̂ factorises: with r the inverse standard deviation and μ
the mean of a byte, its content channels are `r (content - μ)` and those of a table `r · table - r μ`.
"""

import itertools
import math
from typing import NamedTuple

from keras import ops

from keras_perceiver import byte_arrays
from keras_perceiver.attention import MASKED_SCORE, merge_heads, split_heads
from keras_perceiver.factored import factored_sum


def factored_cross_attention(query, byte_array, projection, *, num_heads, epsilon, memory_budget):
    """Cross-attention from the factors of the byte array: about 2hN(c + d) multiply-adds per byte.

    Equal to `attention.dense_cross_attention`; arguments and result are the same.

    Args:
        memory_budget: bytes that the temporaries of one block of bytes may take.
    """
    g = absorb_keys(query, projection, num_heads)  # (B, h·N, C)
    segments = [Segment(s, g.dtype, epsilon) for s in byte_arrays.segments(byte_array).values()]
    sums = factored_sum([s.query(g) for s in segments], [s.rows for s in segments], memory_budget)
    z = sum(segment.channels(total) for segment, total in zip(segments, sums, strict=True))  # (B, h·N, C)
    return absorb_values(z, _any_real(byte_array, z.dtype), projection, num_heads)


def absorbed_cross_attention(query, byte_array, projection, *, num_heads, epsilon, memory_budget):
    """Cross-attention with absorbed projections alone: 2hNC multiply-adds per byte.

    It builds the (B, M, C) array, and neither its keys nor its values.
    """
    x, mask = byte_arrays.materialize(byte_array, query.dtype)  # (B, M, C), (B, M)
    joined = {"content": x, "tables": []} | ({} if mask is None else {"padding_mask": mask})
    return factored_cross_attention(
        query, joined, projection, num_heads=num_heads, epsilon=epsilon, memory_budget=memory_budget
    )


def absorb_keys(query, projection, num_heads):
    """`g = γ∘(W_k q) / sqrt(k)` for each head: (B, N, h·k) -> (B, h·N, C)."""
    channels, width = projection.key_kernel.shape
    head_dim = width // num_heads
    kernel = projection.key_kernel * (projection.gamma[:, None] * (1 / math.sqrt(head_dim)))  # (C, h·k)
    kernel = ops.transpose(ops.reshape(kernel, (channels, num_heads, head_dim)), (1, 2, 0))  # (h, k, C)
    g = _product_per_head(split_heads(query, num_heads), kernel)  # (B, h, N, C)
    return ops.reshape(g, (-1, num_heads * query.shape[1], channels))


def absorb_values(z, any_real, projection, num_heads):
    """`W_vᵀ(γ∘z + β P) + b_v P` for each head: (B, h·N, C) -> (B, N, h·k).

    `any_real` is P, (B, 1, 1): 1, or 0 for an example whose bytes are all masked; None where there is no mask.
    """
    channels, width = projection.value_kernel.shape
    offset, bias = projection.beta, projection.value_bias
    if any_real is not None:
        offset, bias = offset * any_real, bias * any_real  # (B, 1, C), (B, 1, h·k)
    x = z * projection.gamma + offset  # (B, h·N, C)
    x = ops.reshape(x, (-1, num_heads, z.shape[1] // num_heads, channels))  # (B, h, N, C)
    kernel = ops.reshape(projection.value_kernel, (channels, num_heads, width // num_heads))
    values = _product_per_head(x, ops.transpose(kernel, (1, 0, 2)))  # (B, h, N, k)
    # Softmax cancels the key bias: its gradient is zero, which an optimiser must not take for missing.
    return merge_heads(values) + bias + 0 * ops.mean(projection.key_bias)


def _product_per_head(x, kernel):
    """(B, h, N, i), (h, i, o) -> (B, h, N, o), without a product that broadcasts over the batch.

    TensorFlow 2.21 writes beyond its buffers in such a product on processors with AVX-512, (8, 1, 16, 21) by
    (1, 21, 21) for one: wrong memory, then a crash somewhere else.
    """
    if kernel.shape[0] == 1:
        return ops.matmul(x, kernel[0])
    batch, heads, length, inner = ops.shape(x)
    x = ops.reshape(ops.transpose(x, (1, 0, 2, 3)), (heads, batch * length, inner))
    product = ops.reshape(ops.matmul(x, kernel), (heads, batch, length, kernel.shape[-1]))
    return ops.transpose(product, (1, 0, 2, 3))


def _any_real(byte_array, dtype):
    """1 for each example with a byte that is not masked, else 0: (B, 1, 1); None without masks in every segment."""
    masks = [segment.get("padding_mask") for segment in byte_arrays.segments(byte_array).values()]
    if any(mask is None for mask in masks):
        return None
    any_real = [ops.any(ops.reshape(m, (ops.shape(m)[0], -1)), axis=1) for m in masks]  # each (B,)
    return ops.cast(ops.any(ops.stack(any_real), axis=0), dtype)[:, None, None]


class Group(NamedTuple):
    """Tables of one segment that vary along the same index axes."""

    shape: tuple  # (s_1, .., s_d)
    indices: list
    kind: str  # "outer", "inner" or "shared"


def arrange(sizes, table_shapes):
    """How the index axes of a segment are split into P and Q, and what becomes of its tables.

    Args:
        sizes: (S_1, .., S_d), None where unknown.
        table_shapes: (s_1, .., s_d) of every table.

    Returns:
        `(split, [Group, ..])`. The split keeps P + Q small; where no table varies along some but not all axes,
        everything is P.
    """
    axes = {axis for axis, size in enumerate(sizes) if size != 1}
    varying = {shape: {axis for axis, s in enumerate(shape) if s != 1} for shape in table_shapes}
    split = len(sizes)
    if any(0 < len(v) < len(axes) for v in varying.values()):
        known = [size or math.inf for size in sizes]
        split = min(range(1, len(sizes)), key=lambda s: math.prod(known[:s]) + math.prod(known[s:]))
    groups = {}
    for index, shape in enumerate(table_shapes):
        groups.setdefault(shape, []).append(index)
    return split, [Group(s, indices, _kind(varying[s], axes, split)) for s, indices in groups.items()]


def _kind(varying, axes, split):
    if varying and varying == axes:
        return "shared"
    if all(axis >= split for axis in varying):
        return "inner"
    return "outer" if all(axis < split for axis in varying) else "shared"


class Segment:
    """One segment as a grid of P x Q rows, with the way from g to its query and from its sum back to z.

    Index axes before `split` make up P, the others Q. Tables that vary along the same axes form a group, whose
    products with g are taken once for every element of these axes, not for every byte. Groups that vary on one
    side of the split alone reach the core as one number per query and element (`outer`, `inner`); others as features
    of the rows (`shared`).
    """

    def __init__(self, segment, dtype, epsilon):
        self.sizes = ops.shape(segment["content"])[1:-1]
        self.num_content = segment["content"].shape[-1]
        self.tables = [ops.cast(table, dtype) for table in segment["tables"]]
        self.split, self.groups = arrange(
            tuple(segment["content"].shape)[1:-1], [tuple(table.shape)[:-1] for table in self.tables]
        )
        self.masked = "padding_mask" in segment
        self.rows = self._rows(segment, dtype, epsilon)

    def _rows(self, segment, dtype, epsilon):
        grid = (-1, math.prod(self.sizes[: self.split]), math.prod(self.sizes[self.split :]))  # (B, P, Q)
        normalized = byte_arrays.normalized_content(segment, dtype, epsilon)  # (B, S_1, .., S_d, c + 2)
        normalized = ops.reshape(normalized, (*grid, self.num_content + 2))
        rows = {"content": normalized[..., : self.num_content]}  # (B, P, Q, c)
        if self.tables:
            rows = {"content": normalized[..., :-1], "scale": normalized[..., -1]}  # (B, P, Q, c + 1), (B, P, Q)
        if self.masked:
            bias = ops.where(ops.reshape(segment["padding_mask"], (*grid, 1)), 0.0, MASKED_SCORE)
            rows["content"] = ops.concatenate([rows["content"], ops.cast(bias, dtype)], axis=-1)
        shared = [self.tables[i] for group in self.groups if group.kind == "shared" for i in group.indices]
        if shared:
            shared = [ops.broadcast_to(table, (*self.sizes, table.shape[-1])) for table in shared]
            shared = ops.concatenate(shared, axis=-1)  # (S_1, .., S_d, E)
            rows["shared"] = ops.reshape(shared, (*grid[1:], shared.shape[-1]))  # (P, Q, E)
        return rows

    def query(self, g):
        """The query to this segment's rows: (B, h·N, C) -> see `factored`."""
        content, *tables = _split_channels(g, [self.num_content, *(table.shape[-1] for table in self.tables)])
        content = [content]
        if self.tables:
            content.append(ops.sum(g[..., self.num_content :], axis=-1, keepdims=True))  # meets -r·μ: (B, R, 1)
        if self.masked:
            content.append(ops.ones_like(g[..., :1]))  # meets the bias of masked bytes
        query = {"content": ops.concatenate(content, axis=-1)}
        for group in self.groups:
            part = ops.concatenate([tables[i] for i in group.indices], axis=-1)  # (B, R, E)
            if group.kind == "shared":
                part = [query["shared"], part] if "shared" in query else [part]
                query["shared"] = ops.concatenate(part, axis=-1)
            else:
                product = ops.matmul(part, ops.transpose(self._joined(group)))  # (B, R, elements)
                product = self._spread(product, group)
                query[group.kind] = query[group.kind] + product if group.kind in query else product  # (B, R, P or Q)
        return query

    def channels(self, total):
        """The sum of normalised bytes, from the sum of this segment's rows: -> (B, h·N, C)."""
        content = total["content"][..., : self.num_content]  # (B, R, c)
        channels, position = {}, 0
        for group in self.groups:
            widths = [self.tables[i].shape[-1] for i in group.indices]
            if group.kind == "shared":
                sums = total["shared"][..., position : position + sum(widths)]  # (B, R, E)
                position += sum(widths)
            else:
                sums = ops.matmul(self._gathered(total[group.kind], group), self._joined(group))  # (B, R, E)
            sums = sums + total["content"][..., self.num_content : self.num_content + 1]  # the sum of -r·μ
            channels |= dict(zip(group.indices, _split_channels(sums, widths), strict=True))
        return ops.concatenate([content, *(channels[i] for i in range(len(self.tables)))], axis=-1)

    def _side(self, group):
        """Axes and lengths of the side of the split on which a group varies."""
        side = slice(None, self.split) if group.kind == "outer" else slice(self.split, None)
        return group.shape[side], self.sizes[side]

    def _joined(self, group):
        """The group's tables side by side: (elements, E)."""
        table = ops.concatenate([self.tables[i] for i in group.indices], axis=-1)
        return ops.reshape(table, (-1, table.shape[-1]))

    def _spread(self, product, group):
        """(B, R, elements of a group) -> (B, R, P or Q)."""
        lead, (own, full) = ops.shape(product)[:2], self._side(group)
        product = ops.broadcast_to(ops.reshape(product, (*lead, *own)), (*lead, *full))
        return ops.reshape(product, (*lead, math.prod(full)))

    def _gathered(self, sums, group):
        """The transpose of `_spread`: (B, R, P or Q) -> (B, R, elements of a group)."""
        lead, (own, full) = ops.shape(sums)[:2], self._side(group)
        constant = [2 + axis for axis, length in enumerate(own) if length == 1]
        sums = ops.sum(ops.reshape(sums, (*lead, *full)), axis=constant) if constant else sums
        return ops.reshape(sums, (*lead, math.prod(own)))


def _split_channels(x, widths):
    """Cuts the last axis into parts of these widths."""
    ends = list(itertools.accumulate(widths))
    return [x[..., end - width : end] for end, width in zip(ends, widths, strict=True)]
