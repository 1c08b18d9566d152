"""Which example is trained on, which is validated with and which is tested on."""

import csv
import dataclasses
import hashlib
import io
from dataclasses import dataclass

import numpy as np

from keras_perceiver._checks import InputError, require
from keras_perceiver._files import write_atomically
from keras_perceiver.data.examples import Lazy

SPLITS = ("train", "validation", "test")
TEST_FRACTION, VALIDATION_FRACTION = 0.2, 0.1  # of all, and of what is left; where the data bring no such split


@dataclass(frozen=True)
class Split:
    """n labelled examples.

    Attributes:
        examples: (n, ..) as they are stored, a NumPy array or `Lazy`.
        labels: (n,) int32 into `Source.class_names`; or (n, classes) of 0 and 1 where an example may have several.
        names: one string per example, unique in the data set: the path of its file, or where it stands in its array.
        facts: one dictionary per example where they are known without decoding it, see `Modality.scan`.
    """

    examples: np.ndarray | Lazy
    labels: np.ndarray
    names: tuple[str, ...] | None = None
    facts: tuple[dict, ...] | None = None

    def __len__(self):
        return len(self.labels)

    @property
    def is_multi_label(self):
        return self.labels.ndim == 2

    def digest(self):
        """16 hexadecimal digits that change with names, labels and, where they lie in memory, the examples."""
        digest = hashlib.sha256("\0".join(self.names or ()).encode())
        digest.update(np.ascontiguousarray(self.labels))
        if isinstance(self.examples, np.ndarray):
            digest.update(np.ascontiguousarray(self.examples))
        return digest.hexdigest()[:16]

    def take(self, indices):
        """The examples at these places, in this order, as a split of their own."""
        some = {
            name: tuple(values[i] for i in indices)
            for name in ("names", "facts")
            if (values := getattr(self, name)) is not None
        }
        return dataclasses.replace(self, examples=self.examples[indices], labels=self.labels[indices], **some)

    def class_counts(self, num_classes):
        """How many examples have each label."""
        return self.labels.sum(axis=0) if self.is_multi_label else np.bincount(self.labels, minlength=num_classes)


def complete_splits(given, *, seed=0, recorded=None):
    """Makes the splits that the data do not bring, stratified, out of their training examples.

    A validation split without a test split was held out by who made the data: it becomes the test split, so that
    figures can be compared, and another validation split is made. `seed` is that of the data and not of a run: whatever
    seed a model is trained with, no choice can leak from one run into another's test data.

    Args:
        given: `{name: Split}` with "train" and perhaps others.
        seed: of what is made.
        recorded: `{name of an example: name of its split}` that an earlier call has made; used instead.

    Returns:
        `(splits, made, notes)`: all three splits; `{name of an example: name of its split}` for those that were made,
        empty where nothing was; sentences that say what was done.
    """
    splits, notes = dict(given), []
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes.append("the data bring no test split: their validation split is the test split")
    missing = [name for name in ("test", "validation") if name not in splits]
    if not missing:
        return {name: splits[name] for name in SPLITS}, {}, notes
    whole = splits["train"]
    parts = recorded_parts(whole, recorded) if recorded else made_parts(whole.labels, missing, seed)
    require(
        set(parts) == {"train", *missing},
        "The data must bring the same splits as when the run's were made",
        brought=list(given),
        recorded=list(parts),
        repair="Put back what was there, or train again into another folder.",
    )
    splits |= {name: whole.take(indices) for name, indices in parts.items()}
    of = "as the run has recorded" if recorded else f"seeded with {seed} and stratified"
    if recorded and len(recorded) < len(whole):
        notes.append(f"{len(whole) - len(recorded):,} examples are left out that were added after the splits were made")
    sizes = " and ".join(f"{len(parts[name]):,} {name}" for name in missing)
    notes.append(f"{sizes} examples were taken out of {len(whole):,}, {of}")
    for name in SPLITS:
        require(
            len(splits[name]) > 0,
            f"There must be enough examples for a {name} split",
            examples=len(whole),
            repair="With few examples in a class all of them are trained on.",
        )
    made = {whole.names[i]: name for name in SPLITS if name in parts for i in parts[name]}
    return {name: splits[name] for name in SPLITS}, made, notes


def made_parts(labels, missing, seed):
    """`{name: sorted indices}` of the training split and the ones that are missing, which come out of it."""
    rest, parts = np.arange(len(labels)), {}
    for number, name in enumerate(missing):
        fraction = {"test": TEST_FRACTION, "validation": VALIDATION_FRACTION}[name]
        taken = stratified_part(labels[rest], fraction, (seed, number))
        parts[name] = rest[taken]
        rest = np.delete(rest, taken)
    return {"train": rest, **parts}


def stratified_part(labels, fraction, seed):
    """Sorted indices of a part of the examples in which each class keeps its share.

    Every class leaves at least one example behind: what is tested was also trained, and a class with one example
    is trained on. Classes whose shares are no whole numbers get one more by the size of what was cut off, until the
    part has its size, of at least one. With several labels an example the part is drawn from all alike.
    """
    rng = np.random.default_rng(seed)
    if labels.ndim == 2:
        return np.sort(rng.permutation(len(labels))[: max(1, round(fraction * len(labels)))])
    classes, counts = np.unique(labels, return_counts=True)
    shares = fraction * counts
    sizes = np.minimum(shares.astype(int), counts - 1)
    order = np.lexsort((rng.permutation(len(classes)), np.floor(shares) - shares))  # most was cut off first
    for index in order[: max(0, max(1, round(shares.sum())) - sizes.sum())]:
        sizes[index] = min(sizes[index] + 1, counts[index] - 1)
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, sizes, strict=True)]
    return np.sort(np.concatenate(chosen))


def recorded_parts(whole, recorded):
    """`{name: indices}` of the examples of `whole` as `write_splits` has written them down."""
    places = {name: i for i, name in enumerate(whole.names)}
    gone = [name for name in recorded if name not in places]
    require(
        not gone,
        "The data must hold every example of the run's splits",
        missing=gone[:3],
        number=len(gone),
        repair="Put them back, or train again into another folder.",
    )
    parts = {name: [] for name in SPLITS}
    for name, split in recorded.items():
        parts[split].append(places[name])
    return {name: np.sort(np.array(indices, int)) for name, indices in parts.items() if indices}


def write_splits(path, made):
    """Writes `example,split` rows beside their place and renames them into it; an `InputError` where it cannot."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("example", "split"))
    writer.writerows(made.items())
    write_atomically(path, text.getvalue())


def read_splits(path):
    """What `write_splits` wrote, or None where there is no such file."""
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        made = dict(rows)
        legal = header == ["example", "split"] and set(made.values()) <= set(SPLITS)
    except (ValueError, csv.Error) as error:
        raise InputError(f"`{path}` must hold rows of example and split. {error}") from error
    require(legal, f"`{path}` must hold rows of example and split ({', '.join(SPLITS)})")
    return made
