"""The file of a checkpoint: what a run is at one moment, whole or not at all."""

import hashlib
import io
import json
import os
from dataclasses import dataclass

import keras
import numpy as np

from keras_perceiver._checks import InputError, require

NUM_KEPT = 2  # the newest, and the one before in case that it cannot be read


@dataclass(frozen=True)
class State:
    """What one file holds.

    Attributes:
        epoch, step: whole epochs that are done, and steps of the next one.
        rows: the history, a dictionary for each epoch that is done.
        groups: `{group: [(name, array), ..]}`, the values of the variables of a model, of its optimiser and metrics.
    """

    epoch: int
    step: int
    rows: list
    groups: dict


def write_state(folder, state):
    """Writes a state into a folder, beside those that are there, of which the newest is kept.

    The file is an `.npz` without pickles, named after its epoch, its step and the digest of its content. It is written
    beside its place and renamed into it: one that can be seen is whole, whenever the process is killed.

    Returns:
        Its path.

    Raises:
        InputError: where it cannot be written (a full disk, a folder that may not be written to); what was there
            stays.
    """
    temporary = folder / "unfinished"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            _pack(state, file)
            file.flush()
            os.fsync(file.fileno())
        path = folder / f"{state.epoch:06d}-{state.step:08d}-{_digest(temporary)}.npz"
        os.replace(temporary, path)
        for old in _files(folder)[:-NUM_KEPT]:
            old.unlink()
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"The checkpoints in `{folder}` must be writable. ({error.strerror}) Those that are there stay: once there "
            "is room, the same command goes on from the newest."
        ) from error
    return path


def packed(state):
    """The content of a state's file."""
    file = io.BytesIO()
    _pack(state, file)
    return file.getvalue()


def unpacked(content):
    """The state of such a content."""
    return _unpack(io.BytesIO(content))


def _pack(state, file):
    arrays, names = {}, {}
    for group, values in state.groups.items():
        names[group] = [[name, str(array.dtype)] for name, array in values]
        arrays |= {f"{group}.{i}": _plain(array) for i, (_, array) in enumerate(values)}
    about = {"epoch": state.epoch, "step": state.step, "rows": state.rows, "names": names}
    np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)


def _unpack(file):
    with np.load(file, allow_pickle=False) as content:
        about = json.loads(content["about"].tobytes())
        groups = {
            group: [(name, _typed(content[f"{group}.{i}"], dtype)) for i, (name, dtype) in enumerate(names)]
            for group, names in about["names"].items()
        }
    return State(about["epoch"], about["step"], about["rows"], groups)


def newest_file(folder):
    """The newest file in a folder, or None."""
    return (_files(folder) or [None])[-1]


def named_values(variables):
    """`[(name, array), ..]` of Keras variables."""
    return [(variable.path, keras.ops.convert_to_numpy(variable)) for variable in variables]


def newest_state(folder, say):
    """The newest state in a folder that can be read, or None where there is none.

    A file whose content is not what its name says is renamed to `<name>.corrupt` and passed over; `say` is called with
    a sentence on it.
    """
    for path in reversed(_files(folder)):
        state = _read(path)
        if state is not None:
            return state
        os.replace(path, path.with_name(path.name + ".corrupt"))
        say(f"the checkpoint {path} is corrupt (kept as {path.name}.corrupt): going on from the one before")
    return None


def require_same_variables(path, there, here):
    """Requires the variables of a state and of a model, `[(name, array), ..]`, to have the same shapes and dtypes."""
    differing = []
    for i in range(max(len(there), len(here))):
        old, new = (_described(values, i) for values in (there, here))
        if old[1:] != new[1:]:
            differing.append(f"{' '.join(old)} there, {' '.join(new)} here")
    more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
    require(
        not differing,
        f"The checkpoint in `{path}` must be one of this model, with the same optimiser and metrics. "
        f"They differ in {'; '.join(differing[:3])}{more}",
        repair="Choose another folder, or remove the checkpoints.",
    )


def _described(values, index):
    if index >= len(values):
        return ("nothing",)
    name, array = values[index]
    return name, str(array.dtype), str(tuple(array.shape))


def _read(path):
    if not path.stem.endswith(_digest(path)):
        return None
    with path.open("rb") as file:
        return _unpack(file)


def _files(folder):
    return sorted(folder.glob("*.npz"))


def _digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _plain(array):
    """As a dtype that NumPy's files know; bfloat16 is none."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


def _typed(array, dtype):
    return array.view(np.dtype(dtype)) if str(array.dtype) != dtype else array
