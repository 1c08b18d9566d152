"""Looking at data: every figure against data in which it is known."""

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from keras_perceiver._checks import InputError
from keras_perceiver.data import MODALITIES, Split, load_source
from keras_perceiver.inspection import inspect_data
from keras_perceiver.inspection.data import draw_sheet, find_duplicates
from keras_perceiver.training import RECIPES
from tests.pictures import write_picture, write_pictures
from tests.sounds import write_sounds
from tests.tiny_tfds import prepare


def test_counts_sizes_ranges_and_duplicates_are_those_of_the_data(tmp_path):
    for split, values in {"train": (3, 7, 11, 7), "val": (5,), "test": (9, 7)}.items():
        for i, value in enumerate(values):
            write_picture(tmp_path / "data" / split / "cat" / f"{i}.png", value)
        write_picture(tmp_path / "data" / split / "dog" / "a.png", {"train": 11, "val": 100, "test": 200}[split])
    Image.new("RGB", (31, 17), (1, 2, 3)).save(tmp_path / "data" / "train" / "dog" / "colour.png")
    found = inspect_data(tmp_path / "data", output=tmp_path / "seen")
    assert found.counts == {
        "cat": {"train": 4, "validation": 1, "test": 2},
        "dog": {"train": 2, "validation": 1, "test": 1},
    }
    assert found.sizes == [[[6, 5], 10], [[17, 31], 1]]
    assert found.range == (1, 200)
    assert found.enters_as == "64 x 64 x 3"
    within, across = sorted(found.duplicates, key=lambda group: group["across_splits"])
    assert within["examples"] == [["train", "train/cat/2.png"], ["train", "train/dog/a.png"]]
    assert within["labels_differ"]
    assert {name for _, name in across["examples"]} == {"train/cat/1.png", "train/cat/3.png", "test/cat/1.png"}
    assert not across["labels_differ"]
    lines = found.lines()
    assert "1 groups of duplicates across splits: train/cat/1.png = train/cat/3.png = test/cat/1.png" in lines
    assert any(line.startswith("1 groups of duplicates within a split") and "labels differ" in line for line in lines)
    assert (tmp_path / "seen" / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_examples_of_arrays_are_compared_as_they_are_stored():
    source = load_source("digits")
    train = source.splits["train"]
    test = dataclasses.replace(source.splits["test"], examples=source.splits["test"].examples.copy())
    test.examples[4] = train.examples[2]
    found = inspect_data(dataclasses.replace(source, splits={**source.splits, "test": test}), output="seen")
    assert [[train.names[2], test.names[4]]] == [[name for _, name in g["examples"]] for g in found.duplicates]
    assert sum(row["train"] for row in found.counts.values()) == 1293


def test_facts_of_arrays_are_those_of_what_is_stored(tmp_path):
    pixels = np.arange(40 * 6 * 5, dtype=np.uint32).reshape(40, 6, 5) % 251
    np.savez(tmp_path / "a.npz", x_train=pixels.astype(np.uint8), y_train=np.arange(40) % 2)
    found = inspect_data(tmp_path / "a.npz", output=tmp_path / "seen", source={"image_size": 1})
    assert found.enters_as == "1 x 1 x 1"
    assert found.sizes == [[[6, 5], 40]]
    assert found.range == (0, 250)
    assert not found.as_resized


def test_sets_of_the_catalogue_are_said_to_be_looked_at_as_resized(tmp_path):
    prepare(tmp_path)
    found = inspect_data("tfds:fashion_mnist", output=tmp_path / "seen", source={"data_dir": tmp_path, "image_size": 5})
    assert any(line.startswith("image: as resized 5 x 5 (48)") for line in found.lines())


def test_all_counts_examples_and_not_labels(tmp_path):
    rows = ["file,label", *(f"{i}.png,cat;dog" for i in range(20))]
    for i in range(20):
        write_picture(tmp_path / "data" / f"{i}.png", i)
    (tmp_path / "data" / "labels.csv").write_text("\n".join(rows))
    found = inspect_data(tmp_path / "data", output=tmp_path / "seen")
    assert sum(found.examples.values()) == 20
    totals = [list(column.cells)[-1] for column in found.table().columns]
    assert totals == ["all", *map(str, found.examples.values())]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_without_duplicates_that_is_said():
    split = Split(np.zeros((2, 1)), np.zeros(2, np.int32), ("a", "b"))
    assert find_duplicates({"train": split}, {"train": [{"hash": "x"}, {"hash": "y"}]}) == []


def test_the_sheet_shows_examples_before_and_after_augmentation(tmp_path, monkeypatch):
    """What is drawn: the first examples of each class as they enter the model, each beside two that are augmented."""
    drawn = []
    monkeypatch.setattr("keras_perceiver.inspection.data.save", lambda figure, path: drawn.append(figure))
    write_pictures(tmp_path / "data", {"$c_a^t": 20, "d" * 40: 20})
    source = load_source(tmp_path / "data")
    draw_sheet(
        source, RECIPES["image"].replaced(noise_std=30.0), tmp_path / "sheet.png", preprocess={"permute_seed": 1}
    )
    (figure,) = drawn
    assert isinstance(figure, Figure)
    shown = [axes.get_images()[0].get_array() for axes in figure.axes]
    assert len(shown) == 2 * 9
    first = source.splits["train"].examples[0][..., 0] / 255
    np.testing.assert_allclose(shown[0], first, atol=1e-6)
    assert not np.allclose(shown[1], first, atol=1e-2)
    assert not np.allclose(shown[1], shown[2], atol=1e-2)
    assert figure.axes[0].get_ylabel() == r"\$c_a^t"
    assert figure.axes[9].get_ylabel() == "d" * 15 + "…"


def test_data_that_cannot_be_used_leave_nothing(tmp_path):
    with pytest.raises(InputError, match="must be one of the known data sets"):
        inspect_data("nothing", output=tmp_path / "seen")
    assert not (tmp_path / "seen").exists()


def test_augmented_sounds_are_drawn_with_what_training_hides_of_them(tmp_path, monkeypatch):
    drawn = []
    recording = dataclasses.replace(MODALITIES["audio"], draw=lambda axes, example, clip: drawn.append(example))
    monkeypatch.setitem(MODALITIES, "audio", recording)
    write_sounds(tmp_path / "tones", {"high": 7, "low": 7})
    recipe = {"time_masks": 0, "frequency_masks": 2}
    found = inspect_data(tmp_path / "tones", output=tmp_path / "look", source={"clip_seconds": 0.1}, recipe=recipe)
    assert found.enters_as == "16 x 64 x 1"  # frames and bins, not samples
    hidden = [int(np.all(example["audio"] == 0, axis=(0, 2)).sum()) for example in drawn]  # bins
    whole, augmented = hidden[::3], [count for i, count in enumerate(hidden) if i % 3]
    assert not any(whole)
    assert sum(count > 0 for count in augmented) > len(augmented) / 2
