"""Examples that are decoded when they are asked for."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from rich.progress import Progress

CHUNK = 1024  # examples in flight: bounds memory


class Lazy:
    """Like a NumPy array of examples, which lie in files: `len`, `shape`, `dtype`, `nbytes`, one example by its index.

    Args:
        fetch: function of a key that returns one example; called from several threads.
        keys: sequence of n keys, such as paths.
        shape: of one example.
        dtype: of what is handed out; what `fetch` returns is cast to it.
        has_parts: whether `fetch` takes a `crop` too: which part of an example is read, see `images.Crop`.
    """

    def __init__(self, fetch, keys, shape, dtype, has_parts=False):
        self._fetch = fetch
        self.has_parts = has_parts
        self._keys = keys
        self._array = None
        self.shape = (len(keys), *shape)
        self.dtype = np.dtype(dtype)

    def __len__(self):
        return len(self._keys)

    @property
    def nbytes(self):
        """Bytes of all examples once they are decoded."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __getitem__(self, index):
        """One example by an integer; with an array of indices, those examples, still to be decoded."""
        if np.ndim(index):
            return Lazy(self._fetch, [self._keys[i] for i in index], self.shape[1:], self.dtype, self.has_parts)
        return np.asarray(self._fetch(self._keys[index])).astype(self.dtype)

    def part(self, index, crop):
        """A part of one example, in the shape of a whole one."""
        return np.asarray(self._fetch(self._keys[index], crop=crop)).astype(self.dtype)

    def array(self, console=None):
        """All examples decoded, in parallel; kept for the next call."""
        if self._array is None:
            array = np.empty(self.shape, self.dtype)

            def fill(index):
                array[index] = self[index]

            for _ in in_parallel(fill, range(len(self)), "reading", console):
                pass
            self._array = array
        return self._array


def in_parallel(function, items, what, console=None, total=None):
    """Yields `function(item)` in the order of `items`, computed by a thread for each core, with a progress bar."""
    total = len(items) if total is None else total
    items = iter(items)
    visible = console is not None and console.is_terminal
    with ThreadPoolExecutor(os.cpu_count()) as pool, Progress(console=console, disable=not visible) as progress:
        task = progress.add_task(what, total=total)
        while chunk := list(itertools.islice(items, CHUNK)):
            for result in pool.map(function, chunk):
                progress.advance(task)
                yield result
