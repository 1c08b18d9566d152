"""A folder of films or clouds on the road of the pictures: trained on, looked at, exported, asked."""

import numpy as np
import pytest
from films import SOUND_RATE, film
from fuzz_points import SOLID, TETRAHEDRON, as_off
from layer_checks import thorough
from tiny import TINY_MODEL, TINY_RECIPE, quiet

from keras_perceiver.data import load_source
from keras_perceiver.export import predict
from keras_perceiver.inspection import attend, inspect_data
from keras_perceiver.training import evaluate, train


def write_films(folder):
    for name, rate in (("fast", 25), ("slow", 5)):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            (folder / name / f"{number}.mp4").write_bytes(film("mp4", frames=5 + number, rate=rate, size=(32, 48)))
    (folder / "slow" / "broken.mp4").write_bytes(b"no film")
    return {"patch_size": (2, 8, 8)}, {"num_frames": 4}, (4, 32, 48, 3)


def write_films_in_windows(folder):
    model, source, shape = write_films(folder)
    return model, {**source, "frame_rate": 10}, (*shape, 24, 10)


def write_clouds(folder):
    rng = np.random.default_rng(0)
    for name, stretch in (("flat", (1, 1, 0.1)), ("solid", (1, 1, 1))):
        (folder / name).mkdir(parents=True)
        for number in range(7):
            np.save(folder / name / f"{number}.npy", rng.normal(size=(5 + number, 3)) * stretch)
        (folder / name / "mesh.off").write_bytes(as_off(SOLID * stretch, TETRAHEDRON))
    (folder / "solid" / "broken.off").write_bytes(b"OFF\n5 1 0\n0 0 0\n")
    return {}, {"num_points": 11}, (11, 3)


def write_films_with_sound(folder):
    for name, pitch in (("high", 2000), ("low", 300)):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            sound = np.sin(2 * np.pi * pitch * np.arange(9600 + 960 * number) / SOUND_RATE) / 2
            film_bytes = film("avi", frames=5, size=(32, 48), sound=sound)
            (folder / name / f"{number}.avi").write_bytes(film_bytes)
    (folder / "low" / "silent.mp4").write_bytes(film("mp4", frames=5))
    source = {"modality": "audio_video", "num_frames": 4, "sample_rate": 8000, "clip_seconds": 0.16}
    return {"patch_size": {"video": (2, 8, 8), "audio": 4}}, source, (4, 32, 48, 3, 1280, 8000, 5)


BROKEN = {
    write_films: "slow/broken.mp4",
    write_films_in_windows: "slow/broken.mp4",
    write_clouds: "solid/broken.off",
    write_films_with_sound: "low/silent.mp4",
}
WRITERS = [*thorough(write_films, write_films_in_windows), write_clouds, write_films_with_sound]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_folder_is_trained_on_looked_at_exported_and_asked(tmp_path, write):
    model, source, shape = write(tmp_path / "set")
    loaded = load_source(tmp_path / "set", **source)
    assert loaded.example_shape == shape
    assert [problem.path for problem in loaded.report.problems] == [BROKEN[write]]
    found = inspect_data(tmp_path / "set", output=tmp_path / "look", source=source)
    assert sum(found.examples.values()) == 16
    metrics = train(
        tmp_path / "set",
        output=tmp_path / "run",
        shelf=tmp_path / "shelf",
        source=source,
        model={**TINY_MODEL, **model},
        recipe={**TINY_RECIPE, "epochs": 1, "batch_size": 3},
        console=quiet(),
    )
    again = evaluate(tmp_path / "run")
    assert again["accuracy"] == metrics["accuracy"]
    files = sorted(str(path) for path in (tmp_path / "set").glob("*/[0-9m]*"))
    predictions = predict(metrics["export"], files)
    assert [prediction.file for prediction in predictions] == files
    assert all(sum(p.probabilities) == pytest.approx(1, abs=1e-5) for p in predictions)
    drawn = attend(tmp_path / "run", files[:2], output=tmp_path / "maps")
    assert [path.read_bytes()[:4] for path in drawn] == [b"\x89PNG"] * 2
    assert drawn[0].read_bytes() != drawn[1].read_bytes()
