"""How a data set is split: shares, rare classes, and that it is written down."""

import numpy as np
import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.data.examples import Lazy
from keras_perceiver.data.splits import (
    Split,
    complete_splits,
    made_parts,
    read_splits,
    stratified_part,
    write_splits,
)


def whole(labels):
    count = len(labels)
    return Split(np.arange(count)[:, None], np.asarray(labels, np.int32), tuple(f"example {i}" for i in range(count)))


def test_splits_hold_every_example_once_and_keep_the_shares_of_the_classes():
    labels = np.repeat([0, 1, 2], [50, 100, 150])
    splits, made, _ = complete_splits({"train": whole(labels)})
    seen = np.concatenate([split.examples.ravel() for split in splits.values()])
    assert sorted(seen) == list(range(300))
    for name, counts in {"train": [36, 72, 108], "validation": [4, 8, 12], "test": [10, 20, 30]}.items():
        assert splits[name].class_counts(3).tolist() == counts
        np.testing.assert_array_equal(splits[name].labels, labels[splits[name].examples.ravel()])
        assert [made[n] for n in splits[name].names] == [name] * len(splits[name])


def test_shares_that_are_no_whole_numbers_are_rounded_so_that_the_part_has_its_size():
    labels = np.repeat(np.arange(7), 4)  # a fifth of 4 is 0.8; of all 28, 5.6
    part = stratified_part(labels, 0.2, 0)
    assert len(part) == 6
    assert np.bincount(labels[part]).max() == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_class_leaves_an_example_to_train_on(count):
    labels = np.repeat(np.arange(5), [count, 1, 20, 1, count])
    parts = made_parts(labels, ["test", "validation"], seed=3)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    assert np.bincount(labels[parts["train"]], minlength=5).min() >= 1


def test_splits_are_a_function_of_their_seed():
    labels = np.repeat([0, 1], 50)
    one, same, other = (stratified_part(labels, 0.2, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert set(one) != set(other)


def test_only_what_is_missing_is_made():
    train, test = whole(np.repeat([0, 1], 20)), whole([0, 1])
    splits, made, notes = complete_splits({"train": train, "test": test})
    assert splits["test"] is test
    assert len(splits["validation"]) == 4
    assert set(made.values()) == {"train", "validation"}
    assert "4 validation examples were taken out of 40" in notes[0]
    given = {"train": train, "validation": test, "test": test}
    assert complete_splits(given) == (given, {}, [])


@pytest.mark.parametrize(("then", "now"), [(("train", "test"), ("train",)), (("train",), ("train", "test"))])
def test_recorded_splits_of_data_that_brought_others_are_refused(then, now):
    parts = {"train": whole(np.repeat([0, 1], 20)), "test": whole([0, 1])}
    recorded = complete_splits({name: parts[name] for name in then})[1]
    with pytest.raises(InputError, match="must bring the same splits as when the run's were made"):
        complete_splits({name: parts[name] for name in now}, recorded=recorded)


def test_a_digest_changes_with_whatever_is_in_memory():
    split = whole([0, 1, 1])
    same = whole([0, 1, 1])
    others = [
        Split(split.examples + 1, split.labels, split.names),
        Split(split.examples, split.labels[::-1], split.names),
        Split(split.examples, split.labels, split.names[::-1]),
        Split(Lazy(lambda i: i, range(3), (1,), "uint8"), split.labels, split.names),
    ]
    assert split.digest() == same.digest()
    assert len({split.digest(), *(other.digest() for other in others)}) == 5


def test_too_few_examples_for_a_split_are_refused():
    with pytest.raises(InputError, match=r"enough examples for a validation split. Received: examples=2"):
        complete_splits({"train": whole([0, 1])})


def test_splits_with_several_labels_an_example_are_drawn_from_all():
    labels = np.random.default_rng(0).integers(0, 2, (50, 3))
    splits, _, _ = complete_splits({"train": whole(labels)})
    assert {name: len(split) for name, split in splits.items()} == {"train": 36, "validation": 4, "test": 10}
    assert splits["test"].is_multi_label
    np.testing.assert_array_equal(splits["test"].class_counts(3), splits["test"].labels.sum(axis=0))


def test_what_is_written_down_is_read_again(tmp_path):
    made = {"a, b\n.png": "train", "\u00e9.png": "test", '"c".png': "validation"}
    write_splits(tmp_path / "splits.csv", made)
    assert read_splits(tmp_path / "splits.csv") == made
    assert [p.name for p in tmp_path.iterdir()] == ["splits.csv"]
    assert read_splits(tmp_path / "nowhere.csv") is None


@pytest.mark.parametrize(
    "content", ["", "a,b\n", "example,split\nx\n", "example,split\nx,tset\n", "example,split\n\xff,\0"]
)
def test_splits_that_cannot_be_read_are_refused(tmp_path, content):
    (tmp_path / "splits.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="must hold rows of example and split"):
        read_splits(tmp_path / "splits.csv")
