"""Walks over the examples of a batch and the rows of a grid in blocks that fit into a budget of memory."""

import math

import numpy as np
from keras import ops

NUM_TEMPORARIES = 4  # arrays of the size of a block's scores that exist at one time
USUAL_BATCH = 32  # examples for which a grid counts as small where the batch is not known


def row_bytes(num_queries, inner, itemsize):
    """Bytes of the temporaries that one of the P rows of one example needs."""
    return NUM_TEMPORARIES * num_queries * inner * itemsize


def examples_at_once(queries, rows, memory_budget):
    """How many examples are taken together, a divisor of the batch; None for all of them.

    An example that fills the budget goes through its blocks alone: blocks of few rows for many examples would
    spend their time on the running sums. Tables that all examples share are met by the whole batch in one product.
    """
    batch = ops.shape(queries[0]["content"])[0]
    example = sum(
        row_bytes(ops.shape(query["content"])[1], math.prod(ops.shape(row["content"])[1:3]), item_bytes(query))
        for query, row in zip(queries, rows, strict=True)
        if isinstance(math.prod(ops.shape(row["content"])[1:3]), int)
    )
    if example == 0 or any("shared" in row for row in rows):
        return None
    fitting = memory_budget // example
    if fitting <= 1:
        return 1
    if not isinstance(batch, int) or fitting >= batch:
        return None
    divisor = max(d for d in range(1, fitting + 1) if batch % d == 0)
    return divisor if 2 * divisor > fitting else None


def over_examples(function, tensors, chunk):
    """`function(*tensors)`, a list of (B, ..), for `chunk` examples at a time; None for all at once."""
    batch = ops.shape(tensors[0])[0]
    if chunk is None or (isinstance(batch, int) and chunk == batch):
        return function(*tensors)
    parts = ops.map(
        lambda i: function(*(slice_rows(tensor, i * chunk, chunk, axis=0) for tensor in tensors)),
        ops.arange(batch // chunk),
    )
    return [ops.reshape(part, (batch, *ops.shape(part)[2:])) for part in parts]


def block_lengths(queries, rows, memory_budget):
    """`block_length` of each segment."""
    return [block_length(*segment, memory_budget) for segment in zip(queries, rows, strict=True)]


def block_length(query, rows, memory_budget):
    """How many of the P rows a block takes so that its temporaries fit into `memory_budget` bytes: p.

    An integer where shapes are known when the graph is built, else a scalar tensor; but small grids are
    taken in one piece where only the batch is unknown.
    """
    batch, num_queries = ops.shape(query["content"])[:2]
    outer, inner = ops.shape(rows["content"])[1:3]
    fitting = memory_budget // row_bytes(num_queries, inner, item_bytes(query))  # for one example
    if isinstance(fitting, int) and isinstance(outer, int):
        batch = 1 if not isinstance(batch, int) and fitting >= USUAL_BATCH * outer else batch
        if isinstance(batch, int):
            return min(max(fitting // batch, 1), outer)
    return ops.minimum(ops.maximum(fitting // batch, 1), outer)


def item_bytes(query):
    return np.dtype(ops.dtype(query["content"])).itemsize


def over_blocks(add_block, carry, length, block):
    """Folds `add_block(start, size, carry)` over all blocks; the last one may be shorter."""
    count = length // block
    if isinstance(count, int) and count == 1:
        carry = add_block(0, block, carry)
    else:
        carry = ops.fori_loop(0, count, lambda i, carry: add_block(i * block, block, carry), carry)
    rest = length - count * block
    if isinstance(rest, int):
        return add_block(count * block, rest, carry) if rest else carry
    # Known when it runs: LiteRT takes no block without rows.
    return ops.cond(rest > 0, lambda: add_block(count * block, rest, carry), lambda: carry)


def map_blocks(of_block, length, block):
    """Concatenates `of_block(start, size)`, a dictionary of (size, ..), over all blocks."""
    count = length // block
    rest = length - count * block
    parts = []
    if isinstance(count, int) and count == 1:
        parts.append(of_block(0, block))
    else:
        stacked = ops.map(lambda i: of_block(i * block, block), ops.arange(count))  # (blocks, p, ..)
        parts.append({key: ops.reshape(s, (-1, *ops.shape(s)[2:])) for key, s in stacked.items()})
    if not isinstance(rest, int) or rest > 0:
        parts.append(of_block(count * block, rest))
    return {key: ops.concatenate([part[key] for part in parts], axis=0) for key in parts[0]}


def slice_rows(x, start, size, axis):
    starts, shape = [0] * len(x.shape), list(ops.shape(x))
    starts[axis], shape[axis] = start, size
    return ops.slice(x, starts, shape)


def write_rows(buffer, values, start, size):
    """Puts values (B, R, p) at rows `start ..` of a buffer (P, B, R)."""
    indices = start + ops.arange(size)
    return ops.scatter_update(buffer, indices[:, None], ops.transpose(values, (2, 0, 1)))
