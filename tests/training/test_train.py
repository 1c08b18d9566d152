"""The main job at a tiny budget: what it leaves, that it repeats, resumes, and cannot learn from noise."""

import csv
import dataclasses
import importlib
import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from keras_perceiver import build_classifier, training
from keras_perceiver._checks import InputError
from keras_perceiver.data import (
    Source,
    Split,
    dataset_source,
    evaluation_dataset,
    load_source,
    normalize_pixels,
    preprocess_images,
)
from keras_perceiver.export import SavedClassifier
from keras_perceiver.training.configuration import configuration, resolved_preset, resolved_recipe, what_differs
from keras_perceiver.training.evaluate import evaluate_model
from keras_perceiver.training.recipes import RECIPES, Recipe
from keras_perceiver.training.resume import Position
from keras_perceiver.training.runs import Run
from keras_perceiver.training.train import fit
from tests.pictures import write_pictures
from tests.tiny import TINY_MODEL, TINY_RECIPE, quiet

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_run_leaves_what_it_promises(tiny_run):
    names = {p.name for p in tiny_run.folder.iterdir()}
    assert names == {
        "config.json",
        "model.keras",
        "history.csv",
        "history.jsonl",
        "metrics.json",
        "curves.png",
        "confusion_matrix.png",
    }
    for name in ("curves.png", "confusion_matrix.png"):
        assert (tiny_run.folder / name).read_bytes().startswith(PNG)
    config = json.loads((tiny_run.folder / "config.json").read_text())
    assert config["seed"] == 3
    assert config["data"] == "digits"
    assert config["model"]["num_latents"] == TINY_MODEL["num_latents"]
    assert config["training"]["epochs"] == TINY_RECIPE["epochs"]
    rows = list(csv.DictReader((tiny_run.folder / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert set(rows[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}


def test_metrics_are_those_of_the_saved_model(tiny_run):
    metrics = tiny_run.read_json("metrics.json")
    split = load_source("digits").splits["test"]
    logits = keras.models.load_model(tiny_run.model_path)(normalize_pixels(split.examples)).numpy()
    assert metrics["accuracy"] == pytest.approx(np.mean(logits.argmax(axis=1) == split.labels))
    assert np.sum(metrics["confusion_matrix"]) == 360
    assert np.trace(metrics["confusion_matrix"]) == round(metrics["accuracy"] * 360)


@pytest.mark.parametrize(
    ("epochs", "position", "is_repeated"),
    [(1, (0, 0), False), (2, (0, 0), True), (2, (1, 3), True), (2, (2, 0), False)],
)
def test_what_is_asked_for_once_or_not_at_all_is_not_kept(epochs, position, is_repeated, monkeypatch):
    """A run that goes on in its last epoch has what it had before."""
    module, kept = importlib.import_module("keras_perceiver.training.train"), []

    class Seen(Exception):
        pass

    def made(*_, **options):
        kept.append(options["is_repeated"])
        if len(kept) == 2:  # of the validation and of the training split
            raise Seen

    monkeypatch.setattr(module, "evaluation_data", made)
    monkeypatch.setattr(module, "training_data", made)
    recipe = RECIPES["digits"].replaced(epochs=epochs)
    with pytest.raises(Seen):
        fit(keras.Sequential(), load_source("digits"), recipe, 0, position=Position(*position))
    assert kept == [is_repeated] * 2


def test_evaluate_repeats_the_figures_exactly(tiny_run):
    metrics = tiny_run.read_json("metrics.json")
    for name, value in training.evaluate(tiny_run.folder).items():
        assert metrics[name] == value, name


def test_the_export_answers_like_the_saved_model(tiny_run):
    images = load_source("digits").splits["test"].examples[:23]
    expected = keras.models.load_model(tiny_run.model_path)(normalize_pixels(images)).numpy()
    answered = SavedClassifier(tiny_run.read_json("metrics.json")["export"]).logits(images)
    np.testing.assert_allclose(answered, expected, atol=1e-5)


class Kill(keras.callbacks.Callback):
    """Ends a run in the middle of an epoch, as a signal would."""

    def __init__(self, epoch, batch=3):
        super().__init__()
        self.epoch = epoch
        self.batch = batch

    def on_epoch_begin(self, epoch, logs=None):
        self.armed = epoch == self.epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.armed and batch == self.batch:
            raise KeyboardInterrupt


@pytest.mark.thorough
def test_a_killed_run_ends_like_one_that_was_never_killed(tmp_path, tiny_run):
    """Killed within an epoch; `tests/kill.py` does it to whole processes, at random moments."""
    killed = Run(tmp_path / "killed")
    arguments = {"output": killed.folder, "shelf": tmp_path, "seed": 3, "model": TINY_MODEL, "recipe": TINY_RECIPE}
    with pytest.raises(KeyboardInterrupt):
        training.train("digits", callbacks=[Kill(epoch=1, batch=7)], checkpoint_steps=5, console=quiet(), **arguments)
    assert not killed.is_finished
    console = Console(file=io.StringIO())
    training.train("digits", console=console, **arguments)
    assert "going on after step 5 of epoch 2 of 3" in console.file.getvalue()
    assert (killed.folder / "history.csv").read_text() == (tiny_run.folder / "history.csv").read_text()
    models = [keras.models.load_model(run.model_path) for run in (tiny_run, killed)]
    for ours, theirs in zip(*(model.weights for model in models), strict=True):
        assert ours.numpy().tobytes() == theirs.numpy().tobytes(), ours.path
    assert {p.name for p in killed.folder.iterdir()} == {p.name for p in tiny_run.folder.iterdir()}


def test_a_run_that_exists_is_refused_before_anything_is_trained(tiny_run):
    with pytest.raises(InputError, match="finished"):
        training.train("digits", output=tiny_run.folder, seed=3, model=TINY_MODEL, recipe=TINY_RECIPE, console=quiet())
    with pytest.raises(InputError, match="seed: 3 there, 4 here"):
        training.train("digits", output=tiny_run.folder, seed=4, model=TINY_MODEL, recipe=TINY_RECIPE, console=quiet())


def test_arguments_that_contradict_each_other_leave_no_folder(tmp_path):
    with pytest.raises(InputError, match="num_heads=4, latent_dim=33"):
        training.train("digits", output=tmp_path / "run", model={"latent_dim": 33}, console=quiet())
    with pytest.raises(InputError, match="batch_size=2000, examples=1293"):
        training.train("digits", output=tmp_path / "run", recipe={"batch_size": 2000}, console=quiet())
    (tmp_path / "shelf").write_text("")
    with pytest.raises(InputError, match="`shelf` must be a folder that can be written to"):
        training.train("digits", output=tmp_path / "run", shelf=tmp_path / "shelf", console=quiet())
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_a_specialised_network_is_trained_evaluated_and_exported_on_the_same_road(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = dataset_source(two_kinds(), class_names=["dark", "light"], name="brightness")
    arguments = {"network": "resnet18", "model": {"width": 2}, "console": quiet()}
    recipe = {**TINY_RECIPE, "epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    metrics = training.train(source, recipe=recipe, **arguments)
    run = training.Run("runs/brightness-resnet18-seed0")
    assert run.config()["network"] == "resnet18"
    assert run.config()["model"] == {"width": 2, "input_shape": list(source.example_shape), "num_classes": 2}
    assert training.evaluate(run.folder, data=source)["cross_entropy"] == metrics["cross_entropy"]
    assert metrics["export"] == "saved_models/brightness-resnet18/1"
    with pytest.raises(InputError, match="network: 'resnet18' there, 'perceiver' here"):
        training.train(source, output=run.folder, model=TINY_MODEL, recipe=recipe, console=quiet())


@pytest.mark.parametrize(
    ("network", "argument", "rule"),
    [
        ("resnet", "width", "Did you mean 'resnet50' or 'resnet18'"),
        ("resnet18", "share_weights", r"unknown=\['share_weights'\]. It knows num_bands, permute_seed, width"),
        ("vit", "num_self_attention_head", "Did you mean 'num_self_attention_heads'"),
        ("perceiver", "num_latent", "Did you mean 'num_latents'"),
    ],
)
def test_a_network_that_is_not_known_or_does_not_know_an_argument_is_refused(tmp_path, network, argument, rule):
    with pytest.raises(InputError, match=rule):
        training.train("digits", output=tmp_path / "run", network=network, model={argument: 3}, console=quiet())
    assert not (tmp_path / "run").exists()


def test_a_model_and_a_recipe_by_name_with_the_size_and_the_classes_of_the_data():
    source = load_source("digits")
    config = configuration(source, 0, "perceiver", {"num_latents": 7}, {"epochs": 2}, None, "tiny", "imagenet")
    model, training = config["model"], config["training"]
    assert (model["latent_dim"], model["num_latents"], model["padding_mask"]) == (64, 7, False)
    assert (model["input_shape"], model["num_classes"]) == ((8, 8, 1), 10)
    assert (training["optimizer"], training["schedule"], training["epochs"]) == ("lamb", "step", 2)
    assert training["batch_size"] == 1024


def test_a_recipe_of_the_paper_trains_the_papers_model_unless_another_is_named():
    source = load_source("digits")
    for data in ("digits", source):
        assert resolved_preset(None, "imagenet", "perceiver", data, {}) == "imagenet"
        assert resolved_preset("tiny", "imagenet", "perceiver", data, {}) == "tiny"
        for recipe, network in (("imagenet", "vit"), ("image", "perceiver"), ("audioset", "perceiver")):
            assert (
                resolved_preset(None, recipe, network, data, {}) is None
            )  # there is none of films and sounds for pictures


def test_what_a_preset_has_from_the_data_is_said():
    model = {"input_shape": (8, 8, 1), "num_classes": 10}
    assert what_differs("imagenet", model) == [
        "imagenet is built for the data: inputs (8, 8, 1) in place of (224, 224, 3), classes 10 in place of 1000"
    ]
    assert what_differs("modelnet40", {"input_shape": {"points": [2048, 3]}, "num_classes": 40}) == []
    assert what_differs(None, model) == []


def test_raw_sounds_are_not_masked_unless_masks_are_asked_for():
    splits = dict.fromkeys(("train", "validation", "test"), Split(np.zeros(8), np.arange(8) % 2))
    sounds = Source("s", "audio", ("a", "b"), splits, preset="audio", shape=(16, 8, 16))
    for preprocess, overrides, masks in (
        ({}, {}, 2),
        ({"audio_input": "raw"}, {}, 0),
        ({"audio_input": "raw"}, {"time_masks": 3}, 3),
    ):
        for base in (None, "audioset"):
            assert resolved_recipe(sounds, overrides, base, preprocess).time_masks == masks


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"preset": "imagnet"}, "Did you mean 'imagenet'"),
        ({"base_recipe": "audiosets"}, "Did you mean 'audioset'"),
        ({"preset": "tiny", "network": "vit"}, "`preset` must not be given for another network"),
        ({"network": "pointnet"}, "a cloud of points.*There are other networks for it: perceiver, resnet18"),
        ({"preset": "points"}, "`preset` must be a model for the modality .*takes='points', data='image'"),
        ({"preset": "audioset_audio_video"}, "takes='audio_video', data='image'"),
        (
            {"recipe": {"point_dropout": 0.5}},
            "`point_dropout` must be given for data of points alone: it would change nothing.*data='image'",
        ),
        ({"recipe": {"time_masks": 2}}, "`time_masks` must be given for data of audio or audio_video alone"),
    ],
)
def test_names_that_are_not_known_or_do_not_fit_are_refused(tmp_path, arguments, rule):
    with pytest.raises(InputError, match=rule):
        training.train("digits", output=tmp_path / "run", console=quiet(), **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
@pytest.mark.parametrize("shuffled", [False, True])
def test_only_labels_that_mean_something_can_be_learned(shuffled):
    """On shuffled labels a model stays at chance on data that it has not seen; on the true ones it does not."""
    source = load_source("digits")
    train = source.splits["train"]
    labels = np.random.default_rng(11).permutation(train.labels) if shuffled else train.labels
    splits = {**source.splits, "train": Split(train.examples, labels)}
    source = dataclasses.replace(source, splits=splits)
    recipe = Recipe(epochs=12, batch_size=32, learning_rate=4e-3, jit_compile=False)
    model = configuration(source, 0, "perceiver", TINY_MODEL | {"num_latents": 8, "latent_dim": 32}, {})["model"]
    network = build_classifier(**model)
    recipe.compile(network, len(train) // recipe.batch_size)
    fit(network, source, recipe, seed=0)
    split = source.splits["test"]
    dataset = evaluation_dataset(split, batch_size=90, num_classes=10, preprocess=normalize_pixels)
    accuracy = np.mean(network.predict(dataset, verbose=0).argmax(axis=1) == split.labels)
    if shuffled:
        assert accuracy < 0.2
    else:
        assert accuracy > 0.5


def two_kinds(count=60):
    """Pictures that are dark or light, as data sets of Python's."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = (rng.integers(0, 60, (count, 6, 5)) + 190 * labels[:, None, None]).astype(np.uint8)
    return {"train": tf.data.Dataset.from_tensor_slices((images, labels))}


def test_data_sets_of_pythons_are_trained_on_and_what_was_permuted_is_permuted_in_the_export(tmp_path):
    source = dataset_source(two_kinds(), class_names=["dark", "light"], name="brightness")
    metrics = training.train(
        source,
        output=tmp_path / "run",
        shelf=tmp_path / "shelf",
        preprocess={"permute_seed": 3},
        model={**TINY_MODEL, "stem": "conv"},
        recipe={**TINY_RECIPE, "epochs": 1, "batch_size": 16, "learning_rate": 0.05},
        console=quiet(),
    )
    assert metrics["export"] == str(tmp_path / "shelf" / "brightness" / "1")
    assert training.evaluate(tmp_path / "run", data=source)["cross_entropy"] == metrics["cross_entropy"]
    with pytest.raises(InputError, match="`data` must be given again"):
        training.evaluate(tmp_path / "run")
    images = source.splits["test"].examples
    network = keras.models.load_model(tmp_path / "run" / "model.keras")
    expected = network(preprocess_images(permute_seed=3)(images)).numpy()
    np.testing.assert_allclose(SavedClassifier(metrics["export"]).logits(images), expected, atol=1e-5)


def test_data_that_have_changed_are_refused_when_a_run_goes_on_and_when_it_is_evaluated(tmp_path):
    arguments = {"output": tmp_path / "run", "shelf": tmp_path, "model": TINY_MODEL, "console": quiet()}
    arguments["recipe"] = {**TINY_RECIPE, "epochs": 1, "batch_size": 16}
    source = dataset_source(two_kinds(), name="brightness")
    test = source.splits["test"]
    darker = dataclasses.replace(test, examples=test.examples // 2)
    changed = dataclasses.replace(source, splits={**source.splits, "test": darker})
    with pytest.raises(KeyboardInterrupt):
        training.train(source, callbacks=[Kill(epoch=0, batch=0)], **arguments)
    before = (tmp_path / "run" / "splits.csv").read_text()
    with pytest.raises(InputError, match=r"differs in examples: the data have changed \(test\)"):
        training.train(changed, **arguments)
    with pytest.raises(InputError, match=r"The data must be in the splits of the run .* same `seed`"):
        training.train(dataset_source(two_kinds(), name="brightness", seed=1), **arguments)
    with pytest.raises(InputError, match="differs in data: None there, 'digits' here"):
        training.train("digits", **arguments)
    with pytest.raises(InputError, match="without other options"):
        training.train(source, source={"image_size": 5}, **arguments)
    assert (tmp_path / "run" / "splits.csv").read_text() == before
    training.train(source, **arguments)
    with pytest.raises(InputError, match=r"differs in examples: the data have changed \(test\)"):
        training.evaluate(tmp_path / "run", data=changed)


def test_a_seed_that_no_generator_takes_is_refused(tmp_path):
    with pytest.raises(InputError, match="`seed` must be an integer from 0 to 4,294,967,295"):
        training.train("digits", output=tmp_path / "run", seed=2**32, console=quiet())


@pytest.mark.thorough
def test_a_killed_run_keeps_its_splits_and_its_shape_though_files_were_added(tmp_path):
    write_pictures(tmp_path / "data", {"cat": 20, "dog": 20})
    arguments = {"output": tmp_path / "run", "shelf": tmp_path, "model": TINY_MODEL, "console": quiet()}
    arguments["recipe"] = {**TINY_RECIPE, "epochs": 1, "batch_size": 4}
    with pytest.raises(KeyboardInterrupt):
        training.train(tmp_path / "data", callbacks=[Kill(epoch=0)], **arguments)
    before = (tmp_path / "run" / "splits.csv").read_text()
    write_pictures(tmp_path / "data", {"cat": 23, "dog": 31})
    Image.new("RGB", (50, 40), (255, 0, 0)).save(tmp_path / "data" / "cat" / "large.png")
    training.train(tmp_path / "data", **arguments)
    assert (tmp_path / "run" / "splits.csv").read_text() == before
    assert Run(tmp_path / "run").is_finished


@pytest.mark.thorough
def test_a_file_that_goes_away_while_a_model_trains_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_perceiver.data.kept.CACHE_BYTES", 0)
    write_pictures(tmp_path / "data", {"cat": 20, "dog": 20})
    source = load_source(tmp_path / "data")
    for file in source.splits["train"].names:
        (tmp_path / "data" / file).unlink()
    with pytest.raises(InputError, match=r"png` must be a readable picture .*No such file"):
        training.train(
            source,
            output=tmp_path / "run",
            shelf=tmp_path,
            model=TINY_MODEL,
            recipe={**TINY_RECIPE, "batch_size": 4},
            console=quiet(),
        )
    for file in source.splits["test"].names:
        (tmp_path / "data" / file).unlink()
    network = build_classifier(**configuration(source, 0, "perceiver", TINY_MODEL, {})["model"])
    with pytest.raises(InputError, match=r"png` must be a readable picture .*No such file"):
        evaluate_model(network, source)
