"""What a data set is: labelled examples in three splits, and what there is to know of them."""

import dataclasses
import re
import unicodedata
from dataclasses import dataclass, field

import numpy as np

from keras_perceiver._checks import require
from keras_perceiver.data.reports import Report
from keras_perceiver.data.splits import Split, complete_splits

SPLIT_SEED = 0  # of the splits that are made: one for all runs on a data set


@dataclass(frozen=True)
class Source:
    """A classification data set.

    Attributes:
        name: a short name that can stand in a path: letters, digits, `.`, `_` and `-`.
        modality: key of `MODALITIES`.
        class_names: one string per label.
        splits: `{"train" | "validation" | "test": Split}`.
        data: what `load_source` loads it from; None for data that only Python knows.
        data_dir: the folder of tensorflow-datasets, where it is not the usual one.
        preset: key of `PRESETS` and `RECIPES`: the data set's own or that of its modality.
        shape: how examples enter a model, see `Modality`; None for the shape of their array.
        report: what was skipped, and what is to be said.
        made_splits: `{name of an example: name of its split}` for the splits that were made and not found.
    """

    name: str
    modality: str
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    data: str | None = None
    data_dir: str | None = None
    preset: str = ""
    shape: tuple[int, ...] | None = None
    report: Report = field(default_factory=Report)
    made_splits: dict[str, str] = field(default_factory=dict)

    @property
    def example_shape(self):
        """How an example enters a model, without batch: (H, W, c) for images, see `Modality` for others."""
        return self.shape or tuple(self.splits["train"].examples.shape[1:])

    @property
    def is_multi_label(self):
        return self.splits["train"].is_multi_label

    def with_split(self, name, split):
        """The same data with another split of that name."""
        return dataclasses.replace(self, splits={**self.splits, name: split})

    def description(self):
        """What identifies the data in the configuration of a run, and what `load_source` needs to load them again.

        `digest` stands for what no other entry says, see `Split.digest`.
        """
        return {
            "modality": self.modality,
            "data_dir": self.data_dir,
            "shape": list(self.example_shape),
            "class_names": list(self.class_names),
            "examples": {name: len(split) for name, split in self.splits.items()},
            "digest": {name: split.digest() for name, split in self.splits.items()},
        }


def slug(text):
    """A name that can stand in a path and on the shelf, made of any text."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._") or "data"


def finished(
    given,
    *,
    name,
    data,
    modality,
    class_names,
    problems=(),
    notes=(),
    recorded=None,
    seed=SPLIT_SEED,
    data_dir=None,
    shape=None,
):
    """A `Source` with all three splits, made of those that are given."""
    splits, made, said = complete_splits(given, seed=seed, recorded=recorded)
    train = splits["train"].class_counts(len(class_names))
    said += [
        f"class {class_names[i]!r} has only {train[i]} training example{'' if train[i] == 1 else 's'}"
        for i in np.flatnonzero(train < 2)
    ]
    return Source(
        name=slug(name),
        modality=modality,
        class_names=tuple(class_names),
        splits=splits,
        data=data,
        preset=modality,
        report=Report(tuple(problems), (*notes, *said)),
        made_splits=made,
        data_dir=data_dir,
        shape=shape,
    )


def check_classes(class_names, repair=""):
    require(len(class_names) >= 2, "There must be at least two classes", classes=list(class_names), repair=repair)
