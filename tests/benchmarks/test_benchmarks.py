"""Every benchmark runs, at a tiny size; what it measures at its real size stands in NOTES.md."""

import csv
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_perceiver.data import load_source
from keras_perceiver.models import PRESETS
from tests.layer_checks import thorough
from tests.sounds import sine, wav_bytes
from tests.tiny import TINY_MODEL

FOLDER = Path(__file__).parent


@pytest.fixture
def benchmark_module(monkeypatch):
    """Function of a benchmark's name: that benchmark as a module."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture
def in_this_process(benchmark_module, monkeypatch):
    """Function of a benchmark's name: as `benchmark_module`, and what it measures in new processes runs in this one."""

    def module_of(name):
        module = benchmark_module(name)
        monkeypatch.setattr(
            module, "in_own_process", lambda script, settings: json.loads(json.dumps(module.measure(settings)))
        )
        return module

    return module_of


def test_cross_attention_prints_a_ratio_for_every_form(capsys, benchmark_module):
    sizes = ["--size=5", "--latents=3", "--latent-dim=8", "--bands=2", "--repeats=1"]
    benchmark_module("cross_attention").main(sizes)
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[2:]]
    assert [row[:2] for row in rows] == [
        [form, kind] for kind in ("forward", "gradients") for form in ("dense", "absorbed", "factored")
    ]
    assert [float(row[-1]) for row in rows if row[0] == "dense"] == [1.0, 1.0]


def test_latents_prints_layers_beside_their_products_and_where_their_time_goes(capsys, benchmark_module):
    latents = benchmark_module("latents")
    # By hand, of 2 x 4 rows of 16 channels: six products with (16, 16), and two of (4, 4) by 16 for each example.
    forward = 6 * 2 * 8 * 16 * 16 + 2 * 2 * (2 * 4 * 4 * 16)
    assert latents.flops(latents.SIZES["tiny"], "forward") == forward
    assert latents.flops(latents.SIZES["tiny"], "training") == 3 * forward
    latents.main(["--sizes=tiny", "--repeats=1", "--modes=ops", "--heads", "4", "2", "--profile"])
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines() if line.startswith("tiny")]
    assert [row[1:4] for row in rows] == [[kind, h, "ops"] for kind in ("forward", "training") for h in "42"]
    for _, _, _, _, layers, products, ratio, _ in rows:
        assert float(ratio) == pytest.approx(float(layers) / float(products), rel=0.3, abs=0.05)
    assert "2 x (8, 4, 4) by (8, 4, 4)" in printed  # scores and values of four heads of four channels
    milliseconds = [float(line.split()[-2]) for line in printed.splitlines() if line.startswith("    products ")]
    assert len(milliseconds) == 4
    assert max(milliseconds) > 0  # printed in tenths


@pytest.mark.thorough
@pytest.mark.parametrize("training_sizes", [[], ["4"]], ids=str)
def test_scale_measures_every_form_in_processes_of_their_own(tmp_path, training_sizes):
    sizes = ["--small", "--sizes=4", "--modes=ops", "--repeats=1", f"--output={tmp_path}"]
    sizes += ["--training-sizes", *training_sizes]
    subprocess.run([sys.executable, str(FOLDER / "scale.py"), *sizes], check=True)
    *rows, last = json.loads((tmp_path / "scale.json").read_text())
    assert [(row["implementation"], row["pass"]) for row in rows] == [
        (form, kind) for kind in ("forward", *("training" for _ in training_sizes)) for form in ("auto", "dense")
    ]
    assert (last["model"], last["implementation"]) == ("without latent Transformer", "auto")
    assert all(row["seconds"] > 0 for row in (*rows, last))
    assert all(row["peak_bytes"] > 0 for row in rows)
    assert (tmp_path / "scale.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_log_mel_prints_what_keeping_it_saves(capsys, benchmark_module):
    benchmark_module("log_mel").main(["--rates", "8000", "--seconds=0.1", "--batch=2", "--steps=2", "--repeats=1"])
    said = r"(; [a-z ]+: made [\d.]+, kept [\d.]+, [\d.]+ times as fast){2}\n"
    assert re.search(rf" 8,000 Hz, prepared in [\d.]+ s{said}", capsys.readouterr().out)


def test_published_sets_have_the_split_of_those_who_made_them(tmp_path, benchmark_module):
    sounds, films = tmp_path / "recordings", tmp_path / "actions"
    sounds.mkdir()
    for digit in "01":
        for number in range(2, 8):
            content = wav_bytes(sine(300 + 40 * number, 0.3, 8000), 8000)
            (sounds / f"{digit}_theo_{number}.wav").write_bytes(content)
    (sounds / "README.wav").write_bytes(b"no sound")
    for action in ("across", "around"):
        (films / action).mkdir(parents=True)
        for number in range(3, 6):
            (films / action / f"red_star_{number}.mp4").write_bytes(f"{action} {number}".encode())
    sets = benchmark_module("learning_sets")
    sets.main(["spoken_digits", str(tmp_path / "digits"), f"--folder={sounds}"])
    sets.main(["shape_actions", str(tmp_path / "films"), f"--folder={films}"])
    source = load_source(tmp_path / "digits")
    assert not source.report.problems
    test = [f"recordings/{digit}_theo_{number}.wav" for digit in "01" for number in (2, 3, 4)]
    assert list(source.splits["test"].names) == test
    assert len(source.splits["train"]) + len(source.splits["validation"]) == 6
    rows = list(csv.DictReader((tmp_path / "films" / "labels.csv").read_text().splitlines()))
    assert [row["file"] for row in rows if row["split"] == "test"] == [
        f"actions/{action}/red_star_5.mp4" for action in ("across", "around")
    ]
    assert all((tmp_path / "films" / row["file"]).read_text().startswith(row["label"]) for row in rows)


def test_synthetic_sets_are_the_same_for_the_same_seed_and_can_be_trained_on(tmp_path, benchmark_module):
    sets = benchmark_module("learning_sets")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 28, 28), np.uint8), np.arange(30) % 10
    np.savez(tmp_path / "images.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    for digit in "01":
        for number in range(4, 9):
            (tmp_path / "sounds").mkdir(exist_ok=True)
            content = wav_bytes(sine(300 + 40 * number, 0.3, 8000), 8000)
            (tmp_path / "sounds" / f"{digit}_theo_{number}.wav").write_bytes(content)
    few = ["--train=2", "--test=1"]
    pictures = f"--images={tmp_path / 'images.npz'}"
    kinds = {
        "solids": ([*few, "--points=32"], "points", (32, 3), (24, 12)),
        "lit_pixels": ([pictures, "--train=30", "--test=20"], "points", None, (30, 20)),
        "fusion": ([pictures, f"--sounds={tmp_path / 'sounds'}"], "audio_video", None, (8, 2)),
    }
    for kind, (options, modality, shape, counts) in kinds.items():
        folders = [tmp_path / f"{kind}-{run}" for run in ("a", "b", "other")]
        for folder, seed in zip(folders, (3, 3, 4), strict=True):
            drawn = [] if kind == "lit_pixels" else [f"--seed={seed}"]  # in which nothing is drawn
            sets.main([kind, str(folder), *drawn, *options])
        contents = [
            {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            for folder in folders
        ]
        assert contents[0] == contents[1]
        assert contents[0] != contents[2] or kind == "lit_pixels"
        source = load_source(folders[0], modality=modality)
        assert not source.report.problems
        assert shape in (None, source.example_shape)
        assert (len(source.splits["train"]) + len(source.splits["validation"]), len(source.splits["test"])) == counts
    one = load_source(tmp_path / "lit_pixels-a").splits["test"]
    picture = images[int(one.names[0].split("/")[-1][:5])]
    assert one.examples[0]["points_padding_mask"].sum() == (picture > 25).sum()
    assert int(one.names[0].split("/")[1]) == one.labels[0]


@pytest.mark.parametrize(("growth", "spread"), [(1.0, 0.0), (1.5, 0.25)])
def test_scale_tells_a_constant_cost_of_an_input_from_a_growing_one(growth, spread, capsys, benchmark_module):
    rows = [
        {"model": model, "implementation": "auto", "pass": "forward", "mode": "XLA", "size": size, "seconds": seconds}
        for model in ("whole", "without latent Transformer")
        for size, seconds in ((64, 2.0), (256, 2.0 + 60 * 1e-3), (1024, 2.0 + 60 * 1e-3 + 960 * 1e-3 * growth))
    ]
    benchmark_module("scale").report(rows)
    assert f"b is constant within {spread * 100 / (1 + spread):.1f}% " in capsys.readouterr().out


@pytest.mark.thorough
@pytest.mark.parametrize("libraries", [["ours"], *thorough(["ours", "textbook"])], ids=str)
def test_peers_measures_our_own_forms_beside_each_other(tmp_path, libraries, capsys, in_this_process):
    options = ["--budget=tiny", "--passes=training", "--rounds=1", "--repeats=1", f"--output={tmp_path}"]
    options += ["--libraries", *libraries]
    in_this_process("peers").main(options)
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "peers.json").read_text())
    assert [(row["pass"], row["library"], row["mode"]) for row in found["rows"]] == [
        ("training", library, mode) for library in libraries for mode in ("ops", "XLA")
    ]
    assert len({row["parameters"] for row in found["rows"]}) == 1
    assert all(row["seconds"] > 0 for row in found["rows"])
    assert [rate["library"] for rate in found["rates"]] == ["tensorflow"]
    assert "8x8, batch 2, training" in printed
    assert (tmp_path / "peers.png").stat().st_size > 10_000


def test_peers_says_what_it_leaves_out_and_compares_medians_of_rounds(tmp_path, capsys, monkeypatch, benchmark_module):
    peers = benchmark_module("peers")
    seconds = {"ours": [3.0, 1.0, 2.0], "textbook": [5.0, 90.0, 6.0]}

    def measured(script, settings):
        if "rate" in settings:
            return {"projection": 4e11, "heads": 1e11, "layer": 3e11}
        one = {"seconds": seconds[settings["library"]].pop(0), "first_seconds": 1.0}
        return {**one, "peak_bytes": 10**9, "idle_bytes": 0, "parameters": 7}

    monkeypatch.setattr(peers, "in_own_process", measured)
    monkeypatch.setattr(peers, "MODES", {"tensorflow": ("XLA",)})
    options = ["--libraries", "ours", "textbook", "krasserm", "--passes=forward", "--budget=tiny"]
    peers.main([*options, f"--output={tmp_path}"])
    printed = capsys.readouterr().out
    assert "krasserm: no" in printed
    rows = [line.split() for line in printed.split("first s")[1].splitlines()[1:3]]
    assert [(row[0], float(row[2]), float(row[-1])) for row in rows] == [("ours", 2.0, 1.0), ("textbook", 6.0, 3.0)]


def test_peers_that_were_broken_off_go_on_and_finished_ones_begin_again(
    tmp_path, capsys, monkeypatch, benchmark_module
):
    peers, seconds = benchmark_module("peers"), iter([1.0, KeyboardInterrupt, 2.0, 3.0, 4.0, 5.0])

    def measured(script, settings):
        if "rate" in settings:
            return {"projection": 4e11, "heads": 1e11, "layer": 3e11}
        one = next(seconds)
        if one is KeyboardInterrupt:
            raise one
        return {"seconds": one, "first_seconds": 1.0, "peak_bytes": 10**9, "idle_bytes": 0, "parameters": 7}

    def found(name="peers.json"):
        return [row["seconds"] for row in json.loads((tmp_path / "new" / name).read_text())["rows"]]

    monkeypatch.setattr(peers, "in_own_process", measured)
    monkeypatch.setattr(peers, "MODES", {"tensorflow": ("XLA",)})
    options = ["--libraries", "ours", "textbook", "--passes=forward", "--budget=tiny", f"--output={tmp_path / 'new'}"]
    with pytest.raises(KeyboardInterrupt):
        peers.main([*options, "--rounds=1"])
    assert found("peers.unfinished.json") == [1.0]
    peers.main([*options, "--rounds=1"])
    assert "goes on behind 2 measurements" in capsys.readouterr().out
    assert found() == [1.0, 2.0]
    peers.main([*options, "--rounds=1"])
    assert found() == [3.0, 4.0]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"peers.json", "peers.png"}


@pytest.mark.thorough
def test_training_prints_what_checkpoints_cost_and_the_memory(capsys, benchmark_module):
    benchmark_module("training").main(["--steps=20", "--every-steps=5", "--no-jit"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("20 steps in")
    assert lines[1].startswith("checkpoints: 5 of ")
    assert len(lines[2].split(": ")[1].split()) == 10
    assert lines[3].startswith("grown by")


@pytest.mark.thorough
def test_start_up_prints_every_stage(capsys, in_this_process):
    in_this_process("start_up").main(["--small", "--repeats=1", "--modes=ops"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit(maxsplit=2)[0] for line in lines] == [
        "import Keras and backend",
        "import keras_perceiver on top",
        "build the model",
        "first step, ops",
        "second step, ops",
        "keras-perceiver --help",
        "keras-perceiver predict",
    ]


@pytest.mark.thorough
def test_choice_tells_how_long_what_auto_takes_takes(tmp_path, capsys, benchmark_module):
    options = ["--sizes=4", "--latents=3", "--heads=1", "--batches=2", "--seconds=0", f"--times={tmp_path / 'times'}"]
    choice = benchmark_module("choice")
    choice.main([*options, "--calibrate"])
    first = capsys.readouterr().out
    choice.main([*options, "--calibrate"])  # the times are kept
    assert capsys.readouterr().out == first
    lines = first.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["dense", "absorbed", "factored"]
    assert [line.split()[:5] for line in lines[5:7]] == [["4", "3", "1", "2", kind] for kind in ("fourier", "learned")]
    assert lines[-1].startswith("slowest")


def test_input_pipeline_prints_rates_of_pipeline_and_training(capsys, monkeypatch, benchmark_module):
    benchmark = benchmark_module("input_pipeline")
    monkeypatch.setattr("keras_perceiver.data.kept.CACHE_BYTES", 2**31)  # put back what the benchmark changes
    monkeypatch.setattr(benchmark, "AUGMENTATIONS", {"none": {}})
    monkeypatch.setitem(PRESETS, "image", {**PRESETS["image"], **TINY_MODEL})
    monkeypatch.setitem(benchmark.RECIPES, "image", benchmark.RECIPES["image"].replaced(jit_compile=False))
    benchmark.main(["--size=8", "--stored=16", "--examples=8", "--batch-size=4", "--repeats=1"])
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(float(line.split()[-1].replace(",", "")) > 0 for line in lines)


@pytest.mark.thorough
def test_distribution_prints_what_a_second_worker_costs():
    command = [sys.executable, str(FOLDER / "distribution.py"), "--steps=5", "--batch-size=4"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == [
        "one process, 2 examples a step",
        "two workers, 4 examples a step",
    ]
    assert lines[2].startswith("a step of two workers takes ")


@pytest.mark.thorough
def test_search_workers_prints_what_a_second_worker_saves(capfd, benchmark_module):
    benchmark_module("search_workers").main(["--trials=2", "--epochs=1", "--rounds=1"])
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["round 1, 1 of them", "round 1, 2 of them"]
    assert all(line.endswith("for 2 trials") for line in lines[:2])
    assert lines[2].startswith("two workers take ")


def test_exports_tells_what_misses_its_limit(capsys, benchmark_module):
    row = {"modality": "image", "data": "real: digits", "accuracy": 0.98, "examples": 360, "format": "litert"}
    rows = [{**row, "quantize": "float16", "difference": 1e-3, "lost": lost} for lost in (0.1, 0.3)]
    rows += [{**row, "quantize": "int8", "refused": "loses 9 points"}]
    rows += [{**row, "format": "saved_model", "quantize": "", "difference": d, "lost": 0.0} for d in (9e-6, 2e-5)]
    times = {"export_seconds": {"saved_model": 90.0}, "seconds": {"live": 2.0, "saved_model": 2.1}}
    one = {"preset": "imagenet", **times, "times_live": {"saved_model": 1.05}}
    benchmark_module("exports").report({"rows": rows, "imagenet": one})
    lines = capsys.readouterr().out.splitlines()
    assert ["MISSED" in line for line in lines[:5]] == [False, True, False, False, True]
    assert "refused: loses 9 points" in lines[2]
    assert lines[-1].endswith("2.10 s, 1.05 times live")


@pytest.mark.thorough
def test_exports_measures_every_modality_in_every_format(tmp_path, benchmark_module):
    exports = benchmark_module("exports")
    sizes = ["--epochs=1", "--count=9", f"--output={tmp_path}"]
    exports.main(["--modalities", "audio", "video", "audio_video", "points", *sizes])
    rows = json.loads((tmp_path / "exports.json").read_text())["rows"]
    assert [(row["modality"], row["quantize"]) for row in rows] == [
        (modality, quantize)
        for modality in ("audio", "video", "audio_video", "points")
        for quantize in ("", "none", "float16", "dynamic", "int8")
    ]
    assert all(row["data"] == "synthetic" for row in rows)
    exports.main(["--imagenet", "--preset", "tiny", "--rounds=1", f"--output={tmp_path}"])
    assert json.loads((tmp_path / "exports.json").read_text())["imagenet"]["times_live"]["saved_model"] > 0
