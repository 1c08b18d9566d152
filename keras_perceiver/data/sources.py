"""Where data come from: a name -> labelled examples in a train, a validation and a test split."""

from dataclasses import dataclass

import numpy as np

from keras_perceiver._checks import nearest, require

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Examples (n, ..) as they are stored, and their labels (n,) int32 into `Source.class_names`."""

    examples: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)


@dataclass(frozen=True)
class Source:
    """A classification data set.

    Attributes:
        name: as it was asked for.
        modality: "image".
        class_names: one string per label.
        splits: `{"train" | "validation" | "test": Split}`; images are uint8 (n, H, W, c).
    """

    name: str
    modality: str
    class_names: tuple[str, ...]
    splits: dict[str, Split]

    @property
    def example_shape(self):
        """Shape of one example, without batch: (H, W, c) for images."""
        return self.splits["train"].examples.shape[1:]


def load_source(name):
    """Loads the data set that is known by `name`; `SOURCES` lists them."""
    require(
        name in SOURCES,
        f"`data` must be one of the known data sets: {', '.join(sorted(SOURCES))}",
        data=name,
        repair=nearest(name, SOURCES),
    )
    return SOURCES[name]()


def load_digits():
    """The 1,797 handwritten digits that come with scikit-learn, 8x8 grey, as uint8 in [0, 255].

    A stratified fifth is the test split; a tenth of what is left is the validation split. Both are the
    same whatever seed a model is trained with, so that no choice can leak from one run into another's
    test data.
    """
    from sklearn.datasets import load_digits as load

    images, labels = load(return_X_y=True)
    pixels = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)  # stored as 0 .. 16
    return Source(
        name="digits",
        modality="image",
        class_names=tuple("0123456789"),
        splits=stratified_splits(pixels, labels.astype(np.int32), test_fraction=0.2, validation_fraction=0.1, seed=0),
    )


def stratified_splits(examples, labels, *, test_fraction, validation_fraction, seed):
    """Splits off a test part and, of what is left, a validation part, each with the classes' shares."""
    from sklearn.model_selection import train_test_split

    rest, test = train_test_split(np.arange(len(labels)), test_size=test_fraction, stratify=labels, random_state=seed)
    train, validation = train_test_split(rest, test_size=validation_fraction, stratify=labels[rest], random_state=seed)
    parts = zip(SPLITS, (train, validation, test), strict=True)
    return {name: Split(examples[np.sort(part)], labels[np.sort(part)]) for name, part in parts}


SOURCES = {"digits": load_digits}
