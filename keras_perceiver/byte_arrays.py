"""The byte array, carried as its factors (the form is documented in `keras_perceiver.layers`).

A *segment* is the byte array of one modality: a dictionary of

- `content`: (B, S_1, .., S_d, c), what the data say;
- `tables`: list of positions and other features that are the same for every example, each of
  shape (s_1, .., s_d, E) with every s_a equal to S_a or to 1;
- `padding_mask`, optional: (B, S_1, .., S_d) bool, True where the byte is real;
- `normalized`, optional: (B, S_1, .., S_d, c + 2), what `normalized_content` returns for the segment.

Row m = (i_1, .., i_d) of the array it stands for is the concatenation of `content` and of every
table, broadcast over the axes on which it does not vary. A *byte array* is one segment, or a
dictionary of segments by modality that have the same number of channels, or simply a
(B, M, C) tensor: content without tables.
"""

import math

from keras import ops, tree

from keras_perceiver._checks import InputTypeError, require

_SEGMENT_KEYS = {"content", "tables", "padding_mask", "normalized"}


def is_segment(byte_array):
    """Whether a structure (of tensors or of shapes) is one segment."""
    return isinstance(byte_array, dict) and "content" in byte_array


def segments(byte_array):
    """The segments of a byte array by modality, sorted by name: `{modality: segment}`.

    A lone segment has the name "". Works on structures of tensors and of shapes alike.
    """
    if not isinstance(byte_array, dict):
        return {"": {"content": byte_array, "tables": []}}
    if is_segment(byte_array):
        return {"": byte_array}
    require(
        bool(byte_array) and all(is_segment(s) for s in byte_array.values()),
        "`byte_array` must be a (B, M, C) tensor, a segment with the key 'content', or a dictionary of segments",
        keys=sorted(byte_array),
        error=InputTypeError,
    )
    return {name: byte_array[name] for name in sorted(byte_array)}


def segment_channels(segment_shape):
    """Number of channels C of one segment, from its structure of shapes."""
    return segment_shape["content"][-1] + sum(table[-1] for table in segment_shape["tables"])


def num_channels(byte_array_shape):
    """Number of channels C that all segments of a byte array share; checks every shape on the way."""
    channels = {}
    for name, shape in segments(byte_array_shape).items():
        check_segment_shape(name, shape)
        channels[name] = segment_channels(shape)
    require(
        len(set(channels.values())) == 1,
        "All modalities of a byte array must have the same number of channels",
        channels=channels,
        repair="Put a `ModalityEncoding` layer between the positions and the cross-attention.",
    )
    return next(iter(channels.values()))


def length(byte_array_shape):
    """Number of bytes M of one example, over all segments; every axis must be known."""
    return sum(math.prod(shape["content"][1:-1]) for shape in segments(byte_array_shape).values())


def check_segment_shape(name, shape):
    """Requires the tables and the mask of a segment to fit its content, as far as shapes are known."""
    where = f" of modality {name!r}" if name else ""
    content = tuple(shape["content"])
    unknown = sorted(set(shape) - _SEGMENT_KEYS)
    require(not unknown, f"A segment{where} holds only {sorted(_SEGMENT_KEYS)}", unknown=unknown)
    require(
        len(content) >= 3 and content[-1] is not None,
        f"`content`{where} must have the shape (B, S_1, .., S_d, c) with c known",
        content_shape=content,
    )
    if "normalized" in shape:
        require(
            tuple(shape["normalized"])[1:] == (*content[1:-1], content[-1] + 2),
            f"`normalized`{where} must have the shape (B, S_1, .., S_d, c + 2)",
            normalized_shape=tuple(shape["normalized"]),
            content_shape=content,
        )
    for table in map(tuple, shape["tables"]):
        fits = len(table) == len(content) - 1 and all(
            s == 1 or s is None or axis is None or s == axis for s, axis in zip(table, content[1:-1], strict=False)
        )
        require(
            fits,
            f"Every table{where} must have the shape (s_1, .., s_d, E), each s_a equal to S_a of the content or to 1",
            table_shape=table,
            content_shape=content,
        )
    if "padding_mask" in shape:
        mask = tuple(shape["padding_mask"])
        fits = len(mask) == len(content) - 1 and all(
            m is None or axis is None or m == axis for m, axis in zip(mask, content, strict=False)
        )
        require(
            fits,
            f"`padding_mask`{where} must have the shape of the content without its channels",
            padding_mask_shape=mask,
            content_shape=content,
        )


def check(byte_array):
    """Requires tensors of a byte array to fit each other, as far as shapes are known, and masks to be boolean."""
    num_channels(tree.map_structure(lambda x: tuple(x.shape), byte_array))
    check_masks(byte_array)


def check_masks(byte_array):
    """Requires every mask of a byte array to be boolean."""
    for name, segment in segments(byte_array).items():
        if "padding_mask" in segment:
            dtype = str(getattr(segment["padding_mask"], "dtype", type(segment["padding_mask"])))
            require(
                "bool" in dtype,
                f"`padding_mask`{f' of modality {name!r}' if name else ''} must be boolean, True where a byte is real",
                error=InputTypeError,
                dtype=dtype,
            )


def normalized_content(segment, dtype, epsilon):
    """What LayerNorm makes of the content and leaves to do for the tables: (B, S_1, .., S_d, c + 2) of `dtype`.

    The channels are `r (content - μ)`, then `-r μ` and `r`, with μ the mean of a byte over its C channels and r its
    inverse standard deviation: a table's channels are normalised to `r table - r μ`. A segment that has it as
    `normalized` is not asked twice: it depends on the input alone, not on the weights of a cross-attention.

    The variance is a sum of squares about the mean and about each table's own row mean. It costs O(M (c + number of
    tables)) and has no cancellation.
    """
    if "normalized" in segment:
        return ops.cast(segment["normalized"], dtype)
    content = ops.cast(_real_content(segment), dtype)
    tables = [ops.cast(table, dtype) for table in joined_tables(segment["tables"])]
    channels = segment_channels({"content": content.shape, "tables": [table.shape for table in tables]})
    mean = ops.sum(content, axis=-1)  # (B, S_1, .., S_d)
    for table in tables:
        mean = mean + ops.sum(table, axis=-1)
    mean = mean / channels
    centred = content - mean[..., None]
    squares = ops.sum(ops.square(centred), axis=-1)
    for table in tables:
        row_mean = ops.mean(table, axis=-1)  # (s_1, .., s_d)
        own = ops.sum(ops.square(table - row_mean[..., None]), axis=-1)
        squares = squares + own + table.shape[-1] * ops.square(row_mean - mean)
    r = ops.rsqrt(squares / channels + epsilon)[..., None]
    return ops.concatenate([centred * r, -mean[..., None] * r, r], axis=-1)


def joined_tables(tables):
    """Tables that vary along the same axes, side by side in one."""
    groups = {}
    for table in tables:
        groups.setdefault(tuple(table.shape)[:-1], []).append(table)
    return [ops.concatenate(group, axis=-1) for group in groups.values()]


def _real_content(segment):
    """The content, zero where it is masked: what is there may be anything, NaN included."""
    mask = segment.get("padding_mask")
    content = segment["content"]
    return content if mask is None else ops.where(mask[..., None], content, ops.zeros_like(content))


def with_tables(segment, tables):
    """A segment with more tables behind those that it has."""
    return {**segment, "tables": [*segment["tables"], *tables]}


def concatenated(segment, dtype):
    """The bytes of a segment in full, content and tables side by side: (B, S_1, .., S_d, C) of `dtype`."""
    content = ops.cast(_real_content(segment), dtype)
    shape = ops.shape(content)[:-1]  # (B, S_1, .., S_d)
    tables = [_broadcast(ops.cast(table, dtype), shape) for table in segment["tables"]]
    return ops.concatenate([content, *tables], axis=-1)


def _broadcast(table, shape):
    """A table (s_1, .., s_d, E) for every byte of `shape` (B, S_1, .., S_d): (B, S_1, .., S_d, E)."""
    if len(shape) > 4:  # TensorFlow broadcasts no more than five dimensions at once: the batch comes last
        table = ops.broadcast_to(table, (*shape[1:], table.shape[-1]))
    return ops.broadcast_to(table, (*shape, table.shape[-1]))


def materialize(byte_array, dtype):
    """Builds the textbook array: `((B, M, C) of dtype, (B, M) bool mask or None)`.

    Only the dense reference does this; every other form works on the factors.
    """
    rows, masks = [], []
    for segment in segments(byte_array).values():
        row = concatenated(segment, dtype)
        shape = ops.shape(row)[:-1]  # (B, S_1, .., S_d)
        length = math.prod(shape[1:])  # a number wherever it can be one: what converts a model must know it
        rows.append(ops.reshape(row, (shape[0], length, row.shape[-1])))  # (B, M, C)
        mask = segment.get("padding_mask")
        mask = ops.ones(shape, "bool") if mask is None else mask
        masks.append(ops.reshape(mask, (shape[0], length)))  # (B, M)
    any_mask = any("padding_mask" in s for s in segments(byte_array).values())
    return ops.concatenate(rows, axis=1), ops.concatenate(masks, axis=1) if any_mask else None
