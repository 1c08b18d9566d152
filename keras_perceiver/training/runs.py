"""The folder of a run: what is in it, and whether a run may use it."""

import json
import os
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from keras_perceiver._checks import InputError, require, require_folder
from keras_perceiver._files import write_atomically, written
from keras_perceiver.data.splits import read_splits, write_splits
from keras_perceiver.training.history import write_history

OTHER_FOLDER = "Choose another folder with `--output`, or remove this one."
LOCK = "lock"
NOTHING = {LOCK, "config.json.tmp"}  # what a run leaves that was killed before it had begun


class Run:
    """A run folder.

    =========================  ==================================================================
    `config.json`              data, model and training settings, seed: what the run is known by
    `checkpoint/`              the two newest states while it trains; gone when it has finished
    `lock`                     while a process trains: its id; see `locked`
    `tensorboard/`             figures of each epoch for TensorBoard, where they were asked for
    `splits.csv`               which example is in which split, where the data did not say
    `skipped.csv`              what of the data could not be used, and why, where there was anything
    `model.keras`              the trained model
    `history.csv`              a row an epoch; `history.jsonl`: the same, an object of JSON a line
    `metrics.json`             figures on the test split; written last: with it a run is finished
    `curves.png`               loss and accuracy over the epochs
    `confusion_matrix.png`     of the test split
    =========================  ==================================================================

    Every file is written beside its place and renamed into it.

    Args:
        folder: path.
        kind: what messages call it; the folder of a study, which holds runs, begins and goes on like a run.
    """

    def __init__(self, folder, kind="run"):
        self.folder = Path(folder)
        self.kind = kind

    @property
    def model_path(self):
        return self.folder / "model.keras"

    @property
    def checkpoint_folder(self):
        return self.folder / "checkpoint"

    @property
    def has_begun(self):
        return (self.folder / "config.json").is_file()

    @property
    def is_finished(self):
        return (self.folder / "metrics.json").is_file()

    @contextmanager
    def locked(self):
        """Keeps other processes from training into the folder; made where it does not exist.

        The kernel holds the lock, and lets it go with the process however that ends. (On Windows there is none.)

        Raises:
            InputError: where another process holds it, or the folder cannot be written to.
        """
        require_folder(output=self.folder)
        if fcntl is None:
            yield
            return
        path = self.folder / LOCK
        with self._open_lock(path) as file:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def _open_lock(self, path):
        """The lock file, locked by this process."""
        while True:
            file = path.open("a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                process = file.read()
                file.close()
                raise InputError(
                    f"`output` must be a folder into which no other process trains. Process {process} does. "
                    f"Received: output={str(self.folder)!r}. {OTHER_FOLDER}"
                ) from error
            if path.is_file() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
            file.close()  # the one who held it removed the file in between

    def claim(self, config):
        """Makes the folder this run's, or finds it to be.

        Raises:
            InputError: where the folder holds a finished run, a run with another configuration,
                or other files.
        """
        require_folder(output=self.folder)
        if not {path.name for path in self.folder.iterdir()} - NOTHING:
            self.write_json("config.json", config)
            return
        require(
            self.has_begun,
            f"`output` must be empty or hold an unfinished {self.kind}",
            output=str(self.folder),
            files=sorted({p.name for p in self.folder.iterdir()} - NOTHING)[:5],
            repair=OTHER_FOLDER,
        )
        self.require_same(config, OTHER_FOLDER)
        require(
            not self.is_finished,
            f"`output` {str(self.folder)!r} holds this very run, finished",
            repair=f"`keras-perceiver evaluate {self.folder}` repeats its figures. {OTHER_FOLDER}",
        )

    def require_same(self, config, repair=""):
        """Requires the run to have these parts of a configuration; the message says what differs."""
        known = self.config()
        differing = differences({key: known.get(key) for key in config}, json.loads(json.dumps(config)))
        leaves = [leaf for leaf in differing if not leaf[0].startswith("source.digest.")]
        said = [f"{key}: {old!r} there, {new!r} here" for key, old, new in leaves]
        if len(leaves) < len(differing) and not {"data", "source.shape"} & {key for key, *_ in leaves}:
            splits = [key.removeprefix("source.digest.") for key, *_ in differing if key.startswith("source.digest.")]
            said.append(f"examples: the data have changed ({', '.join(splits)})")
        require(
            not differing,
            f"{str(self.folder)!r} holds a {self.kind} with another configuration, which differs in " + "; ".join(said),
            repair=repair,
        )

    def config(self):
        """The configuration, as `claim` wrote it."""
        return self.read_json("config.json")

    def splits(self):
        """The splits that were made for this run, `{name of an example: name of its split}`; None for none."""
        return read_splits(self.folder / "splits.csv")

    def write_data(self, source):
        """Writes down what of the data cannot be looked up again: splits that were made, files that were skipped."""
        if source.made_splits:
            write_splits(self.folder / "splits.csv", source.made_splits)
        if source.report.problems:
            source.report.write(self.folder / "skipped.csv")
        else:
            (self.folder / "skipped.csv").unlink(missing_ok=True)

    def read_json(self, name):
        """The content of one of the run's JSON files."""
        path = self.folder / name
        require(
            path.is_file(),
            f"`run` must be the folder of a run, with `{name}` in it",
            run=str(self.folder),
            repair="`keras-perceiver train` makes one; an unfinished run goes on with the same command.",
        )
        try:
            return json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise InputError(f"`{path}` must be JSON. {error}") from error

    def write_json(self, name, content):
        """Writes one of the run's JSON files."""
        write_atomically(self.folder / name, json.dumps(content, indent=2) + "\n")

    def write_history(self, rows):
        """Writes `history.csv` and `history.jsonl`, see `write_history`."""
        write_history(self.folder, rows)

    def save_model(self, model):
        """Writes `model.keras`."""
        temporary = self.model_path.with_name("unfinished.keras")  # Keras asks for this ending
        with written(self.model_path, temporary):
            model.save(temporary)


def differences(old, new, prefix=""):
    """The leaves in which two nested dictionaries differ: a list of (dotted key, old, new)."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [(prefix, old, new)]
    return [
        leaf
        for key in sorted(old.keys() | new.keys())
        for leaf in differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
    ]
