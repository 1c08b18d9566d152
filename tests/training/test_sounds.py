"""Sounds and several labels an example, from files to figures."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import average_precision_score
from sounds import sine, wav_bytes, write_sounds
from tiny import TINY_MODEL, TINY_RECIPE, quiet

from keras_perceiver.data import load_source
from keras_perceiver.export import SavedClassifier, predict
from keras_perceiver.training import Run, evaluate, train
from keras_perceiver.training.evaluate import mean_of_clips
from keras_perceiver.training.feeding import evaluation_data
from keras_perceiver.training.metrics import multi_label_metrics

RECIPE = {**TINY_RECIPE, "epochs": 2, "batch_size": 8}


def trained(tmp_path, data, **more):
    run = Run(tmp_path / "run")
    metrics = train(
        str(data), output=run.folder, shelf=tmp_path / "shelf", model=TINY_MODEL, recipe=RECIPE, console=quiet(), **more
    )
    return run, metrics


@pytest.mark.parametrize(
    "preprocess",
    [pytest.param({}, id="log-mel"), pytest.param({"audio_input": "raw"}, id="raw", marks=pytest.mark.thorough)],
)
def test_a_folder_of_sounds_is_trained_on_tested_in_clips_and_asked(tmp_path, preprocess):
    write_sounds(tmp_path / "tones", {"high": 9, "low": 9})
    source = {"clip_seconds": 0.15}
    run, metrics = trained(tmp_path, tmp_path / "tones", source=source, preprocess=preprocess)
    again = evaluate(run.folder)
    assert again == {name: metrics[name] for name in again}
    loaded = load_source(str(tmp_path / "tones"), **source)
    test = loaded.splits["test"]
    files = [tmp_path / "tones" / name for name in test.names]
    answers = predict(metrics["export"], files, top=1)
    right = [a.classes[0] == loaded.class_names[label] for a, label in zip(answers, test.labels, strict=True)]
    assert np.mean(right) == metrics["accuracy"]
    clip = np.zeros((2, loaded.example_shape[0]), np.float32)
    rows = SavedClassifier(metrics["export"]).probabilities({"samples": clip, "length": [9, 80]})
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    rate = 2 * loaded.example_shape[1]
    encoded = [files[0].read_bytes(), wav_bytes(sine(440, 0.4, rate), rate), b"RIFF"]  # a clip or more, another rate
    other = tmp_path / "other.wav"
    other.write_bytes(encoded[1])
    served = tf.saved_model.load(metrics["export"]).signatures["from_bytes"](encoded=tf.constant(encoded))
    assert served["valid"].numpy().tolist() == [True, True, False]
    for row, answer in zip(
        served["probabilities"].numpy(), predict(metrics["export"], [files[0], other]), strict=False
    ):
        np.testing.assert_allclose(np.sort(row)[::-1], answer.probabilities, atol=1e-3)


def test_sounds_with_several_labels_are_trained_on(tmp_path):
    rows, folder = ["file,label,split"], tmp_path / "tones"
    folder.mkdir()
    for i in range(24):
        labels = [name for bit, name in enumerate(("low", "middle", "high")) if (i % 7 + 1) >> bit & 1]
        samples = sum(sine({"low": 200, "middle": 600, "high": 1800}[name], 0.2, 8000, 0.2) for name in labels)
        (folder / f"{i}.wav").write_bytes(wav_bytes(samples, 8000))
        rows.append(f"{i}.wav,{';'.join(labels)},{('train', 'train', 'test')[i % 3]}")
    (folder / "labels.csv").write_text("\n".join(rows))
    run, metrics = trained(tmp_path, folder)
    assert 0 < metrics["mean_average_precision"] <= 1
    assert json.loads((run.folder / "metrics.json").read_text())["examples"] == 8
    assert not (run.folder / "confusion_matrix.png").exists()
    last = json.loads((run.folder / "history.jsonl").read_text().splitlines()[-1])
    source = load_source(folder, splits=run.splits())
    model = keras.models.load_model(run.model_path)
    logits = model.predict(evaluation_data(source, "validation"), verbose=0)
    labels = source.splits["validation"].labels
    known = labels.any(axis=0)
    precision = average_precision_score(labels[:, known], logits[:, known], average="macro")
    assert last["val_mean_average_precision"] == pytest.approx(precision, abs=1e-6)
    again = evaluate(run.folder)
    assert again == {name: metrics[name] for name in again}
    answer = predict(metrics["export"], [folder / "0.wav"], top=3)[0]
    assert sum(answer.probabilities) > 1.01 or sum(answer.probabilities) < 0.99


def test_average_precision_is_that_of_scikit_learn_and_classes_without_positives_are_named():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(31, 3)), rng.integers(0, 2, (31, 3))
    labels[:, 1] = 0
    found = multi_label_metrics(logits, labels, ["a", "b", "c"])
    assert found["classes_without_positives"] == ["b"]
    assert found["classes"]["b"] == {"average_precision": None, "examples": 0}
    expected = average_precision_score(labels[:, [0, 2]], logits[:, [0, 2]], average="macro")
    np.testing.assert_allclose(found["mean_average_precision"], expected)
    probabilities = 1 / (1 + np.exp(-logits))
    entropy = -np.mean(labels * np.log(probabilities) + (1 - labels) * np.log(1 - probabilities))
    np.testing.assert_allclose(found["binary_cross_entropy"], entropy)


def test_logits_of_the_clips_of_one_example_are_averaged():
    logits = np.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(mean_of_clips(logits, np.array([1, 3, 2])), [[0, 1], [4, 5], [9, 10]])
    assert mean_of_clips(logits, None) is logits
