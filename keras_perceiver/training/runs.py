"""The folder of a run: what is in it, and whether a run may use it."""

import csv
import json
import os
from pathlib import Path

from keras_perceiver._checks import InputError, require, require_folder
from keras_perceiver.data.splits import read_splits, write_splits

OTHER_FOLDER = "Choose another folder with `--output`, or remove this one."


class Run:
    """A run folder.

    =========================  ==================================================================
    `config.json`              data, model and training settings, seed: what the run is known by
    `checkpoint/`              the newest state while it trains; gone when it has finished
    `splits.csv`               which example is in which split, where the data did not say
    `skipped.csv`              what of the data could not be used, and why, where there was anything
    `model.keras`              the trained model
    `history.csv`              a row an epoch
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

    def claim(self, config):
        """Makes the folder this run's, or finds it to be: True where an unfinished run goes on.

        Raises:
            InputError: where the folder holds a finished run, a run with another configuration,
                or other files.
        """
        require_folder(output=self.folder)
        if not any(self.folder.iterdir()):
            self.write_json("config.json", config)
            return False
        require(
            self.has_begun,
            f"`output` must be empty or hold an unfinished {self.kind}",
            output=str(self.folder),
            files=sorted(p.name for p in self.folder.iterdir())[:5],
            repair=OTHER_FOLDER,
        )
        self.require_same(config, OTHER_FOLDER)
        require(
            not self.is_finished,
            f"`output` {str(self.folder)!r} holds this very run, finished",
            repair=f"`keras-perceiver evaluate {self.folder}` repeats its figures. {OTHER_FOLDER}",
        )
        return True

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
        """Writes `history.csv`, a row an epoch, from dictionaries with the same keys."""
        path = self.folder / "history.csv"
        temporary = path.with_name(path.name + ".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, path)


def write_atomically(path, text):
    """Writes a text file so that a reader, or a run that is killed, never sees half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def differences(old, new, prefix=""):
    """The leaves in which two nested dictionaries differ: a list of (dotted key, old, new)."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [(prefix, old, new)]
    return [
        leaf
        for key in sorted(old.keys() | new.keys())
        for leaf in differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
    ]
