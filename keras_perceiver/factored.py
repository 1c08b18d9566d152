"""The factored sum: softmax attention of linear queries to rows that are never written out.

A segment of the byte array is seen as a grid of P x Q rows (P·Q = M). The features of row (i, j) are the
concatenation of

    [content[i, j],  scale[i, j] · e_i,  scale[i, j] · e_j,  scale[i, j] · shared[i, j]]

with unit vectors e_i of length P and e_j of length Q. A query to them has the same four parts, and with row (i, j) the
product

    s[i, j] = content · content[i, j] + scale[i, j] · (outer[i] + inner[j] + shared · shared[i, j])

so what varies along one index axis costs one addition per query and row, however many channels it has.

What attention returns, `z = Σ_m softmax(s)_m features_m`, is the gradient of `logsumexp_m s_m` with respect to the
query. Forward and backward are therefore made of the same three functions: `scores` (query -> s), `pull`
(weights -> a sum of features, in the structure of a query) and `push` (weights -> a gradient in the structure
of the rows). With D = ⟨dz, z⟩ for a cotangent dz:

    d query    = Σ_m p_m (s_m(dz) - D) features_m
    d features = p_m (s_m(dz) - D) query + p_m dz

Both directions go through the examples a few at a time and through their rows in blocks of P, and keep nothing of
size N x M: forward a running maximum and total, from which p is computed again backward. (The logsumexp would be one
number instead of two, but at scores of 1e4 its rounding error is p's.)

The sum of p_m (s_m(dz) - D), which is zero, tells the rounding error of D: it is added to D for the rows and, times
z, taken from the gradient of the query. Without that, a query that sees one row alone, whose gradient is zero, would
get D's rounding error times its own magnitude.

Structures, dictionaries of tensors of one float dtype; all keys but `content` are optional, and `outer`, `inner` and
`shared` need a `scale`. R stands for all queries of an example, h·N:

- query: `content` (B, R, c), `outer` (B, R, P), `inner` (B, R, Q), `shared` (B, R, E)
- rows: `content` (B, P, Q, c), `scale` (B, P, Q), `shared` (P, Q, E), the same for all examples
"""

import numpy as np
from keras import ops

from keras_perceiver._blocks import (
    block_lengths,
    examples_at_once,
    map_blocks,
    over_blocks,
    over_examples,
    slice_rows,
    write_rows,
)
from keras_perceiver._gradients import cotangents
from keras_perceiver.attention import MASKED_SCORE

MOST_FOLDED = 8  # rows of a block whose part of the query still travels with the content


def factored_sum(queries, rows, memory_budget):
    """`Σ_m softmax(s)_m features_m` over the rows of all segments together.

    Args:
        queries: list of queries, one a segment.
        rows: list of rows, one a segment.
        memory_budget: bytes that the temporaries of one block may take; a block has at least one of the P rows.

    Returns:
        List of sums in the structure of the queries, zero for queries whose every score is below
        `MASKED_SCORE` / 2.
    """
    query_keys, row_keys = [sorted(query) for query in queries], [sorted(row) for row in rows]
    keys = query_keys + row_keys

    @ops.custom_gradient
    def flat_sum(*tensors):
        chunk = examples_at_once(*_halves(_unflatten(tensors, keys)), memory_budget)

        def of_examples(*tensors):
            queries, rows = _halves(_unflatten(tensors, keys))
            sums, top, inverse_total = forward(queries, rows, block_lengths(queries, rows, memory_budget))
            return [top, inverse_total, *_flatten(sums)]

        top, inverse_total, *sums = over_examples(of_examples, tensors, chunk)

        def gradient(*arguments, upstream=None):
            upstream = cotangents(arguments, upstream)
            count = len(upstream)

            def structures(tensors):
                sums, tensors = _unflatten(tensors[:count], query_keys), tensors[count:]
                cotangents, tensors = _unflatten(tensors[:count], query_keys), tensors[count:]
                queries, rows = _halves(_unflatten(tensors, keys))
                blocks = block_lengths(queries, rows, memory_budget)
                return sums, list(zip(queries, cotangents, rows, blocks, strict=True))

            def of_queries(top, inverse_total, *tensors):
                gradients, slope = _query_gradients(*structures(tensors), top, inverse_total)
                return [slope, *_flatten(gradients)]

            def of_rows(top, slope, *tensors):
                _, segments = structures(tensors)
                return _flatten([_row_gradient(*segment, top, slope) for segment in segments])

            # In units of exp(top), as the weights are.
            upstream = [cotangent * inverse_total[..., None] for cotangent in upstream]
            slope, *query_gradients = over_examples(of_queries, [top, inverse_total, *sums, *upstream, *tensors], chunk)
            row_gradients = over_examples(of_rows, [top, slope, *sums, *upstream, *tensors], chunk)
            return (*query_gradients, *row_gradients)

        return tuple(sums), gradient

    return _unflatten(flat_sum(*_flatten([*queries, *rows])), query_keys)


def scores(query, rows):
    """s of every row: (B, R, P, Q)."""
    product = _product(query["content"], rows["content"])  # (B, R, P, Q)
    positions = _positions(query, rows)
    return product if positions is None else product + _of_all_queries(rows["scale"]) * positions


def _positions(query, rows):
    """The part of the scores that `scale` multiplies, broadcastable to (B, R, P, Q); None for nothing."""
    parts = []
    if "outer" in query:
        parts.append(ops.expand_dims(query["outer"], 3))  # (B, R, P, 1)
    if "inner" in query:
        parts.append(ops.expand_dims(query["inner"], 2))  # (B, R, 1, Q)
    if "shared" in query:
        parts.append(_shared_product(query["shared"], rows["shared"]))  # (B, R, P, Q)
    return sum(parts[1:], parts[0]) if parts else None


def pull(weights, query, rows):
    """`Σ_m weights_m features_m` in the structure of `query`, and `Σ_m weights_m`, `total`; weights (B, R, P, Q)."""
    content = _flat_rows(rows["content"])
    content = ops.concatenate([content, ops.ones_like(content[..., :1])], axis=-1)  # (B, PQ, c + 1)
    content = ops.matmul(_flat_weights(weights), content)  # the total as one channel more: no pass of its own
    total = {"content": content[..., :-1], "total": content[..., -1]}  # (B, R, c), (B, R)
    if "scale" in rows:
        weights = weights * _of_all_queries(rows["scale"])
    if "outer" in query:
        total["outer"] = ops.sum(weights, axis=3)  # (B, R, P)
    if "inner" in query:
        total["inner"] = ops.sum(weights, axis=2)  # (B, R, Q)
    if "shared" in query:
        shared = ops.reshape(rows["shared"], (-1, query["shared"].shape[-1]))  # (PQ, E)
        total["shared"] = ops.matmul(_flat_weights(weights), shared)  # (B, R, E)
    return total


def push(slopes, weights, query, cotangent, rows):
    """`Σ_R slopes · query + weights · cotangent` in the structure of `rows`; slopes, weights (B, R, P, Q)."""
    batch, queries, outer, inner = ops.shape(slopes)
    product = _transposed_product(slopes, query["content"]) + _transposed_product(weights, cotangent["content"])
    gradient = {"content": ops.reshape(product, (batch, outer, inner, query["content"].shape[-1]))}  # (B, P, Q, c)
    if "scale" in rows:
        positions = slopes * _positions(query, rows) + weights * _positions(cotangent, rows)
        gradient["scale"] = ops.sum(positions, axis=1)  # (B, P, Q)
    if "shared" in rows:
        scale, channels = _of_all_queries(rows["scale"]), query["shared"].shape[-1]

        def over_batch(weights, features):  # (B, R, P, Q), (B, R, E) -> (PQ, E)
            weights = ops.reshape(weights * scale, (batch * queries, outer * inner))
            return ops.matmul(ops.transpose(weights), ops.reshape(features, (batch * queries, channels)))

        product = over_batch(slopes, query["shared"]) + over_batch(weights, cotangent["shared"])
        gradient["shared"] = ops.reshape(product, (outer, inner, channels))  # (P, Q, E)
    return gradient


def _of_all_queries(scale):
    """(B, P, Q) -> (B, 1, P, Q). LiteRT knows no index with None where two lengths are open: of B, and a block of P."""
    return ops.expand_dims(scale, 1)


def _product(query, rows):
    """(B, R, c), (B, P, Q, c) -> (B, R, P, Q)."""
    product = ops.matmul(query, ops.transpose(_flat_rows(rows), (0, 2, 1)))  # (B, R, PQ)
    return ops.reshape(product, (*ops.shape(query)[:2], *ops.shape(rows)[1:3]))


def _shared_product(query, rows):
    """(B, R, E), (P, Q, E) -> (B, R, P, Q), as one product for the whole batch."""
    batch, queries, channels = ops.shape(query)
    outer, inner = ops.shape(rows)[:2]
    product = ops.matmul(query, ops.transpose(ops.reshape(rows, (outer * inner, channels))))  # (B, R, PQ)
    return ops.reshape(product, (batch, queries, outer, inner))


def _transposed_product(weights, query):
    """(B, R, P, Q), (B, R, c) -> (B, PQ, c)."""
    return ops.matmul(ops.transpose(_flat_weights(weights), (0, 2, 1)), query)


def _flat_rows(rows):
    """(B, P, Q, c) -> (B, PQ, c)."""
    batch, outer, inner, channels = ops.shape(rows)
    return ops.reshape(rows, (batch, outer * inner, channels))


def _flat_weights(weights):
    """(B, R, P, Q) -> (B, R, PQ)."""
    batch, queries, outer, inner = ops.shape(weights)
    return ops.reshape(weights, (batch, queries, outer * inner))


def forward(queries, rows, blocks):
    """The sums; and, over all segments, the maximum `top` and the inverse of the total weight in units of exp(top).

    A query that sees nothing has the inverse zero, which makes its result and all its gradients zero.
    """
    parts = [_running_sum(*segment) for segment in zip(queries, rows, blocks, strict=True)]
    top = parts[0]["top"]
    for part in parts[1:]:
        top = ops.maximum(top, part["top"])
    total = sum(part["total"] * ops.exp(part["top"] - top) for part in parts)  # (B, R)
    inverse_total = ops.where(top > MASKED_SCORE / 2, 1 / total, ops.zeros_like(total))
    sums = []
    for part in parts:
        factor = (ops.exp(part["top"] - top) * inverse_total)[..., None]  # (B, R, 1)
        total = {key: value * factor for key, value in part["sum"].items()}
        if "outer" in part:
            top_then, outer = (ops.transpose(part[key], (1, 2, 0)) for key in ("outer_top", "outer"))  # (B, R, P)
            total["outer"] = outer * ops.exp(top_then - top[..., None]) * inverse_total[..., None]
        sums.append(total)
    return sums, top, inverse_total


def _running_sum(query, rows, block):
    """Maximum `top` and `total` weight (B, R) of a segment, and its `sum`, both in units of exp(top).

    Entries of `outer` (P, B, R) are complete after their own block: they stay in units of the maximum of that time,
    `outer_top`.
    """
    carry = {
        "top": ops.zeros_like(query["content"][..., 0]) - np.inf,  # (B, R)
        "total": ops.zeros_like(query["content"][..., 0]),
        "sum": {key: ops.zeros_like(value) for key, value in query.items() if key != "outer"},
    }
    if "outer" in query:
        outer = ops.zeros_like(ops.transpose(query["outer"], (2, 0, 1)))  # (P, B, R)
        carry |= {"outer": outer, "outer_top": outer}

    def add_block(start, size, carry):
        part_query = _folded_query(block_of_query(query, start, size), size)
        part = _folded_rows(block_of_rows(rows, start, size), query, size)
        score = scores(part_query, part)  # (B, R, p, Q)
        top = ops.maximum(carry["top"], ops.max(score, axis=(2, 3)))  # (B, R)
        weights = ops.exp(score - top[..., None, None])
        decay = ops.exp(carry["top"] - top)  # (B, R)
        pulled = _unfolded(pull(weights, part_query, part), query)
        new = {
            "top": top,
            "total": carry["total"] * decay + pulled["total"],
            "sum": {key: value * decay[..., None] + pulled[key] for key, value in carry["sum"].items()},
        }
        if "outer" in query:
            top_now = ops.broadcast_to(top[..., None], ops.shape(pulled["outer"]))  # (B, R, p)
            new["outer"] = write_rows(carry["outer"], pulled["outer"], start, size)
            new["outer_top"] = write_rows(carry["outer_top"], top_now, start, size)
        return new

    return over_blocks(add_block, carry, ops.shape(rows["content"])[1], block)


def _query_gradients(sums, segments, top, inverse_total):
    """Gradients of the queries of all segments, and D (B, R) without its rounding error."""
    slope = sum(
        ops.sum(cotangent[key] * s[key], axis=-1)
        for (_, cotangent, _, _), s in zip(segments, sums, strict=True)
        for key in s
    )
    gradients, residuals = zip(*(_query_gradient(*segment, top, slope) for segment in segments), strict=True)
    residual = sum(residuals)  # (B, R)
    gradients = [
        {key: gradient[key] - residual[..., None] * s[key] for key in gradient}
        for gradient, s in zip(gradients, sums, strict=True)
    ]
    return gradients, slope + residual * inverse_total


def _query_gradient(query, cotangent, rows, block, top, slope):
    """`Σ_m p_m (s_m(dz) - D) features_m` in the structure of `query`, and `Σ_m p_m (s_m(dz) - D)` (B, R)."""
    carry = {key: ops.zeros_like(value) for key, value in query.items() if key != "outer"}
    carry["total"] = ops.zeros_like(top)
    if "outer" in query:
        carry["outer"] = ops.zeros_like(ops.transpose(query["outer"], (2, 0, 1)))  # (P, B, R)

    def add_block(start, size, carry):
        part_query, part_cotangent, part = _block(query, cotangent, rows, start, size)
        part_query, part_cotangent = _folded_query(part_query, size), _folded_query(part_cotangent, size)
        part = _folded_rows(part, query, size)
        slopes, _ = _slopes(part_query, part_cotangent, part, top, slope)
        pulled = _unfolded(pull(slopes, part_query, part), query)
        return {
            key: write_rows(value, pulled[key], start, size) if key == "outer" else value + pulled[key]
            for key, value in carry.items()
        }

    gradient = over_blocks(add_block, carry, ops.shape(rows["content"])[1], block)
    residual = gradient.pop("total")
    if "outer" in gradient:
        gradient["outer"] = ops.transpose(gradient["outer"], (1, 2, 0))
    return gradient, residual


def _row_gradient(query, cotangent, rows, block, top, slope):
    """`p_m (s_m(dz) - D) query + p_m dz` for every row, in the structure of `rows`.

    A loop of its own: where neither content nor tables are trained, nothing asks for it and the graph drops it.
    """

    def of_block(start, size):
        part_query, part_cotangent, part = _block(query, cotangent, rows, start, size)
        folded = (_folded_query(part_query, size), _folded_query(part_cotangent, size), _folded_rows(part, query, size))
        slopes, weights = _slopes(*folded, top, slope)  # rounded as in the other loops
        gradient = push(slopes, weights, part_query, part_cotangent, part)
        return {key: _outer_first(key, value) for key, value in gradient.items()}

    gradient = map_blocks(of_block, ops.shape(rows["content"])[1], block)
    return {key: _outer_first(key, value) for key, value in gradient.items()}


def _slopes(query, cotangent, rows, top, slope):
    """Weights of a block in units of exp(top), and their product with `s(dz) - D`; both (B, R, p, Q)."""
    weights = ops.exp(scores(query, rows) - top[..., None, None])
    return weights * (scores(cotangent, rows) - slope[..., None, None]), weights


def _block(query, cotangent, rows, start, size):
    queries = (block_of_query(q, start, size) for q in (query, cotangent))
    return (*queries, block_of_rows(rows, start, size))


def block_of_query(query, start, size):
    if "outer" not in query:
        return query
    return {**query, "outer": slice_rows(query["outer"], start, size, axis=2)}


def block_of_rows(rows, start, size):
    return {key: slice_rows(value, start, size, axis=0 if key == "shared" else 1) for key, value in rows.items()}


def _folds(query, size):
    """Whether `outer` travels as channels of the content, one for each row of the block: the products then add it to
    the scores and sum its weights, which saves passes over the block as long as the channels are few.
    """
    return "outer" in query and isinstance(size, int) and size <= MOST_FOLDED


def _folded_query(query, size):
    if not _folds(query, size):
        return query
    folded = {key: value for key, value in query.items() if key != "outer"}
    return {**folded, "content": ops.concatenate([query["content"], query["outer"]], axis=-1)}  # (B, R, c + p)


def _folded_rows(rows, query, size):
    if not _folds(query, size):
        return rows
    channels = rows["scale"][..., None] * ops.eye(size, dtype=rows["scale"].dtype)[:, None]  # (B, p, Q, p)
    return {**rows, "content": ops.concatenate([rows["content"], channels], axis=-1)}  # (B, p, Q, c + p)


def _unfolded(total, query):
    if "outer" not in query or "outer" in total:
        return total
    channels = query["content"].shape[-1]
    return {**total, "content": total["content"][..., :channels], "outer": total["content"][..., channels:]}


def _outer_first(key, value):
    """Swaps B and P where rows have both; `shared` has P first already."""
    return value if key == "shared" else ops.swapaxes(value, 0, 1)


def _halves(groups):
    """Queries and rows of all segments, which stand one after the other."""
    return groups[: len(groups) // 2], groups[len(groups) // 2 :]


def _flatten(groups):
    return [group[key] for group in groups for key in sorted(group)]


def _unflatten(tensors, keys):
    tensors = iter(tensors)
    return [{key: next(tensors) for key in group} for group in keys]
