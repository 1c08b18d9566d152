"""What a SavedModel answers at each endpoint, to what is good, bad and empty; and what lies beside it."""

import io
import json
import resource
import struct
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_perceiver.data import MODALITIES, normalize_pixels, read_image
from keras_perceiver.export import endpoints, export_saved_model, fresh_process
from keras_perceiver.export.endpoints import CLIPS_AT_ONCE, XLA, Served, in_float32, noise, read_clips
from keras_perceiver.export.fresh_process import C_API
from keras_perceiver.export.server_session import ServerSession
from keras_perceiver.export.warm_up import BATCH_SIZES, WARM_UP
from keras_perceiver.training.memory import PeakMemory
from tests.layer_checks import thorough
from tests.small_classifier import NAMES, SHAPE, small_classifier
from tests.sounds import wav_bytes

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(exported[1].folder)


@pytest.fixture
def endpoint(loaded):
    def ask(name, **inputs):
        return {key: value.numpy() for key, value in loaded.signatures[name](**inputs).items()}

    return ask


def pixels(count):
    return RNG.integers(0, 256, (count, *SHAPE)).astype(np.float32)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_an_empty_batch_has_an_empty_answer(endpoint):
    assert endpoint("serving_default", image=tf.zeros((0, *SHAPE)))["logits"].shape == (0, 3)
    assert endpoint("embed", image=tf.zeros((0, *SHAPE)))["latent_array"].shape == (0, 3, 8)
    answer = endpoint("from_bytes", encoded=tf.constant([], tf.string))
    assert answer["probabilities"].shape == (0, 3)
    assert answer["valid"].shape == (0,)


def test_a_number_that_is_not_finite_spoils_its_own_example_alone(endpoint):
    images = pixels(5)
    clean = endpoint("serving_default", image=tf.constant(images))["logits"]
    for wrong in (np.nan, np.inf, -np.inf):
        images[2, 1, 1] = wrong
        spoilt = endpoint("serving_default", image=tf.constant(images))["logits"]
        assert not np.isfinite(spoilt[2]).any()
        np.testing.assert_allclose(np.delete(spoilt, 2, axis=0), np.delete(clean, 2, axis=0), rtol=1e-5)


def test_what_has_the_wrong_rank_or_type_is_refused(loaded):
    for bad in (tf.zeros(SHAPE), tf.zeros((2, 7, 5, 1)), tf.zeros((2, *SHAPE), tf.int32)):
        with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)):
            loaded.signatures["serving_default"](image=bad)


def test_files_of_the_wrong_rank_or_type_are_refused(loaded, exported):
    session, file = ServerSession(exported[1].folder), encoded(Image.fromarray(np.zeros((5, 7), np.uint8)), "PNG")
    for bad in (tf.constant([[file]]), tf.constant(file), tf.zeros((1,))):
        with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)):
            loaded.signatures["from_bytes"](encoded=bad)
    for bad in ([[file]], [[file, file]], file):
        with pytest.raises(RuntimeError, match=r"is not compatible with expected shape \[\?\]"):
            session.endpoint("from_bytes")({"encoded": bad})


def test_files_that_cannot_be_read_cost_the_others_nothing(endpoint, exported):
    """A truncated JPEG, text, nothing, and pictures that would be of a billion pixels, among good ones."""
    grey = Image.fromarray(RNG.integers(0, 256, (11, 13), np.uint8))
    colour = Image.fromarray(RNG.integers(0, 256, (9, 4, 3), np.uint8))
    good = [encoded(grey, "PNG"), encoded(colour, "JPEG", quality=95), encoded(grey, "GIF")]
    huge = bytearray(encoded(grey, "PNG"))
    huge[16:24] = struct.pack(">II", 40_000, 40_000)
    large = bytearray(good[1])
    start = large.index(b"\xff\xc0") + 5  # of the header of the picture
    large[start : start + 4] = struct.pack(">HH", 20_000, 20_000)
    bad = [good[1][:-40], b"text", b"", bytes(large), bytes(huge)]
    files = [good[0], *bad[:3], good[1], *bad[3:], good[2]]
    answer = endpoint("from_bytes", encoded=tf.constant(files))
    expected = np.array([file in good for file in files])
    np.testing.assert_array_equal(answer["valid"], expected)
    assert not answer["logits"][~expected].any()
    assert not answer["probabilities"][~expected].any()
    images = normalize_pixels(np.stack([read_image(file, SHAPE) for file in good]))
    live = exported[0](images).numpy()
    assert np.ptp(live, axis=0).min() > 0.1
    np.testing.assert_allclose(answer["logits"][expected], live, atol=2e-2)  # a level of grey may be rounded otherwise
    np.testing.assert_allclose(answer["probabilities"][expected].sum(axis=1), 1, rtol=1e-5)
    alone = endpoint("from_bytes", encoded=tf.constant(good))
    np.testing.assert_allclose(answer["logits"][expected], alone["logits"], rtol=1e-4, atol=1e-5)
    assert not endpoint("from_bytes", encoded=tf.constant(bad[:2]))["valid"].any()


def test_the_embedding_is_what_the_head_takes(endpoint, exported):
    images = pixels(3)
    answer = endpoint("embed", image=tf.constant(images))
    assert answer["latent_array"].shape == (3, 3, 8)
    np.testing.assert_allclose(answer["latent_mean"], answer["latent_array"].mean(axis=1), atol=1e-6)
    head = exported[0].get_layer("logits")
    logits = answer["latent_mean"] @ head.kernel.numpy() + head.bias.numpy()
    np.testing.assert_allclose(endpoint("serving_default", image=tf.constant(images))["logits"], logits, atol=1e-5)


def test_the_graph_holds_neither_python_nor_xla(exported):
    content = (exported[1].folder / "saved_model.pb").read_bytes()
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    definition = SavedModel.FromString(content).meta_graphs[0].graph_def
    functions = [function for _, part in definition.ListFields() for function in getattr(part, "function", ())]
    operations = {node.op for node in definition.node} | {n.op for f in functions for n in f.node_def}
    assert "MatMul" in operations or "BatchMatMulV2" in operations
    assert not [op for op in operations if "PyFunc" in op or "Xla" in op]
    assert not [f for f in functions if f.attr["_XlaMustCompile"].b]


def test_the_c_api_answers_as_python_does_and_says_what_is_wrong(exported, endpoint, tmp_path):
    """The loader of the server: arrays and files in, each endpoint's answers out."""
    session, images = ServerSession(exported[1].folder), pixels(3)
    files = [encoded(Image.fromarray(image[..., 0].astype(np.uint8)), "PNG") for image in images]
    asked = {"serving_default": {"image": images}, "embed": {"image": images}, "from_bytes": {"encoded": files}}
    for name, inputs in asked.items():
        answer = session.endpoint(name)(inputs)
        expected = endpoint(name, **{key: tf.constant(value) for key, value in inputs.items()})
        assert set(answer) == set(expected)
        for key, value in answer.items():
            np.testing.assert_allclose(value, expected[key], rtol=1e-5, atol=1e-6)
            assert value.dtype == (bool if key == "valid" else np.float32)
    turned, twice = images.transpose(0, 2, 1, 3), np.concatenate([images, images], axis=1)
    for wrong in (images[:, :-1], images[..., 0], images[None], turned, twice):
        for name in ("serving_default", "embed"):
            with pytest.raises(RuntimeError, match=r"is not compatible with expected shape \[\?,5,7,1\]"):
                session.endpoint(name)({"image": wrong})
    with pytest.raises(RuntimeError, match=r"int32|INT32"):
        session.endpoint("serving_default")({"image": images.astype(np.int32)})
    with pytest.raises(RuntimeError, match="SavedModel"):
        ServerSession(tmp_path)


def test_warm_up_has_a_request_for_each_endpoint_and_batch_size(exported, endpoint):
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    asked = []
    for record in tf.data.TFRecordDataset(str(exported[1].folder / "assets.extra" / WARM_UP)):
        request = PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "animals"
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        name = request.model_spec.signature_name
        answer = endpoint(name, **inputs)
        assert all(np.isfinite(value).all() for value in answer.values())
        asked.append((name, len(next(iter(answer.values())))))
        assert answer.get("valid", np.ones(1)).all()
    expected = [(name, size) for name in ("serving_default", "from_bytes", "embed") for size in BATCH_SIZES]
    assert sorted(asked) == sorted(expected)


def test_what_lies_beside_the_graph_says_what_it_is(exported):
    folder = exported[1].folder
    description = json.loads((folder / "assets.extra" / "perceiver.json").read_text())
    assert description["class_names"] == NAMES
    assert description["provenance"]["metrics"] == {"accuracy": 0.75}
    report = json.loads((folder / "assets.extra" / "parity.json").read_text())
    assert report["passed"]
    names = {"serving_default", "from_bytes", "embed"}
    assert set(report["endpoints"]) == names | {name + C_API for name in names}
    card = (folder / "README.md").read_text()
    for part in ("# animals", "zebra", "zoo", "CC0", '"accuracy": 0.75', '"seed": 7', "`from_bytes`", "`embed`"):
        assert part in card


def test_what_a_client_must_know_of_its_arrays_is_written_down():
    """Of a film with sound: sizes, types, ranges and the rate, for programs and in words."""
    shape = (4, 32, 48, 3, 16_000, 8_000, 10)
    model = small_classifier(input_shape=MODALITIES["audio_video"].input_shape(shape), padding_mask=True)
    served = Served(model, modality="audio_video", shape=shape)
    found = served.describe_inputs()
    assert found["frames"] == {"shape": [4, 32, 48, 3], "dtype": "float32", "range": [0, 255]}
    known = {"dtype": "float32", "range": [-1, 1], "sample_rate": 8_000}
    assert found["samples"] == {"shape": [16_000], **known}
    assert found["length"] == {"shape": [], "dtype": "int32"}
    words = served.describe(["serving_default"])["serving_default"]
    assert "`samples` (B, 16000) float32 in [-1, 1] at 8,000 Hz" in words
    assert "`length` (B) int32" in words


def test_noise_of_films_with_sound_is_pixels_and_samples():
    made = noise(MODALITIES["audio_video"], (2, 4, 4, 3, 4000, 8000, 2), 3)
    pixels, samples = made["frames"], made["samples"]
    assert pixels.min() >= 0
    assert 200 < pixels.max() <= 255
    assert -1 <= samples.min() < -0.9
    assert 0.9 < samples.max() <= 1


@pytest.mark.parametrize(
    ("call", "seconds", "counted"), [(0.01, 0.5, 50), (0.2, 0.5, 10), (4.0, 0.5, 1), (4.0, 10.0, 3)]
)
def test_calls_are_timed_for_a_while_and_slow_ones_a_few_times(call, seconds, counted, monkeypatch):
    clock = types.SimpleNamespace(now=0.0)

    def run(batch):
        clock.now += call

    monkeypatch.setattr(fresh_process, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    times = fresh_process.milliseconds(run, {"image": np.zeros((2, 3))}, 1, seconds)
    assert abs(len(times) - counted) <= 1
    np.testing.assert_allclose(times, 1000 * call, rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float16"])
def test_a_model_of_any_precision_is_served_in_float32(policy):
    model = small_classifier(dtype=policy)
    twin = in_float32(model)
    images = normalize_pixels(pixels(2))
    reference = small_classifier()
    reference.set_weights([np.asarray(w.numpy(), np.float32) for w in map(tf.convert_to_tensor, model.weights)])
    np.testing.assert_allclose(twin(images), reference(images), atol=1e-6)
    assert np.abs(twin(images) - tf.cast(model(images), tf.float32)).max() > 1e-4  # which the model itself is not
    assert in_float32(reference) is reference


@pytest.mark.thorough
def test_a_real_picture_of_400_million_pixels_is_refused_in_little_memory(endpoint):
    content = encoded(Image.new("L", (20_000, 20_000), 77), "JPEG")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not endpoint("from_bytes", encoded=tf.constant([content]))["valid"].any()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 100 * 2**20


SHAPES = {  # of each modality, with the settings of what stands before the model
    "image": ((5, 7, 1), {}),
    "audio": ((1280, 8000, 1280), {"num_mel_bins": 8}),
    "video": ((2, 5, 4, 3), {}),
    "audio_video": ((2, 5, 4, 3, 1280, 8000, 3), {"num_mel_bins": 8}),
    "points": ((11, 3), {}),
}


@pytest.mark.parametrize("modality", ["audio_video", *thorough("image", "audio", "video", "points")])
def test_the_endpoint_that_xla_compiles_answers_as_the_other_with_masks_and_lengths(modality):
    """Of an example half of which is masked, too; and what is masked may be anything."""
    shape, settings = SHAPES[modality]
    kind = MODALITIES[modality]
    masked = modality in ("audio", "audio_video", "points")
    inputs = kind.input_shape(shape, **settings)
    model = small_classifier(input_shape=inputs, **({"padding_mask": True} if masked else {}))
    served = Served(model, modality=modality, shape=shape, settings=settings)
    _, endpoints = served.module(xla=True)
    examples = served.noise(3)
    for values in examples.values():
        if values.dtype != np.float32:  # a mask, or a length
            values[0] = np.arange(values[0].size) < 5 if values.dtype == bool else values[0] // 2
    tensors = {name: tf.constant(values) for name, values in examples.items()}
    plain, compiled = (endpoints[name](tensors) for name in ("serving_default", XLA))
    largest = np.abs(plain["logits"]).max()
    assert largest > 0.1
    np.testing.assert_allclose(compiled["logits"], plain["logits"], atol=2e-5 * largest)
    np.testing.assert_allclose(compiled["probabilities"], plain["probabilities"], atol=1e-5)
    if masked:
        floats = {name: x for name, x in examples.items() if x.dtype == np.float32}
        spoilt = examples | {
            name: np.where(_is_hidden(name, examples), np.float32(0.5), x) for name, x in floats.items()
        }
        assert any((spoilt[name] != examples[name]).any() for name in examples)
        again = endpoints[XLA]({name: tf.constant(values) for name, values in spoilt.items()})
        np.testing.assert_allclose(again["logits"], compiled["logits"], atol=2e-5 * largest)


@pytest.mark.parametrize("modality", ["audio_video", "points", *thorough("image", "audio", "video")])
def test_no_example_is_answered_by_nothing_and_one_that_is_not_finite_by_what_is_not_finite(modality):
    """By raw arrays of each modality, compiled too; and arrays of another shape are refused."""
    shape, settings = SHAPES[modality]
    masked = {"padding_mask": True} if modality in ("audio", "audio_video", "points") else {}
    model = small_classifier(input_shape=MODALITIES[modality].input_shape(shape, **settings), **masked)
    served = Served(model, modality=modality, shape=shape, settings=settings)
    _, endpoints = served.module(xla=True)
    examples = served.noise(3)
    name = next(iter(examples))
    for ask in (endpoints["serving_default"], endpoints[XLA]):
        empty = ask({key: tf.constant(x[:0]) for key, x in examples.items()})
        assert empty["logits"].shape == empty["probabilities"].shape == (0, 3)
        clean = ask({key: tf.constant(x) for key, x in examples.items()})["logits"].numpy()
        assert np.isfinite(clean).all()
        for wrong in (np.nan, np.inf):
            bad = {key: x.copy() for key, x in examples.items()}
            bad[name][(1, *(size // 2 for size in bad[name].shape[1:]))] = wrong
            spoilt = ask({key: tf.constant(x) for key, x in bad.items()})["logits"].numpy()
            assert not np.isfinite(spoilt[1]).any()
            np.testing.assert_allclose(spoilt[[0, 2]], clean[[0, 2]], rtol=1e-4, atol=1e-5)
        for turned in (examples[name][None], np.concatenate([examples[name]] * 2, axis=1)):
            with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)):
                ask({**examples, name: tf.constant(turned)})


def test_sounds_of_many_clips_are_answered_by_the_mean_of_all_of_them():
    """Far more than go through the model at once, and of none at all."""
    shape, settings = (1280, 8000, 4000), SHAPES["audio"][1]
    model = small_classifier(input_shape=MODALITIES["audio"].input_shape(shape, **settings), padding_mask=True)
    served = Served(model, modality="audio", shape=shape, settings=settings)
    ask = served.module()[1]["from_bytes"]
    lengths = [4000, 600, 2000, *[4000] * 5]
    files = [wav_bytes(RNG.uniform(-0.5, 0.5, length), 8000) for length in lengths]
    answer = ask({"encoded": tf.constant([*files, b"no sound"])})
    np.testing.assert_array_equal(answer["valid"], [True] * len(files) + [False])
    clips = [read_clips(served.kind, shape, file) for file in files]
    counts = [len(clip["samples"]) for clip in clips]
    assert counts == [7, 1, 4, *[7] * 5]
    assert sum(counts) > 2 * CLIPS_AT_ONCE
    expected = [
        served.forward({n: tf.constant(x) for n, x in clip.items()})["logits"].numpy().mean(0) for clip in clips
    ]
    np.testing.assert_allclose(answer["logits"][:-1], expected, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected, axis=0).min() > 1e-3
    assert ask({"encoded": tf.constant([b"no sound"])})["logits"].shape == (1, 3)


@pytest.mark.parametrize("modality", ["audio", *thorough("audio_video")])
def test_a_length_below_zero_is_none_and_one_beyond_the_window_all_of_it(modality):
    shape, settings = SHAPES[modality]
    model = small_classifier(input_shape=MODALITIES[modality].input_shape(shape, **settings), padding_mask=True)
    served = Served(model, modality=modality, shape=shape, settings=settings)
    examples = {name: np.repeat(x[:1], 5, axis=0) for name, x in served.noise(1).items()}
    examples["length"] = np.array([-3, 0, 640, 1280, 99_999], np.int32)
    logits = served.module()[1]["serving_default"]({n: tf.constant(x) for n, x in examples.items()})["logits"].numpy()
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[[0, 4]], logits[[1, 3]], rtol=1e-5)
    assert np.abs(np.diff(logits[1:4], axis=0)).max(axis=1).min() > 1e-3


@pytest.mark.parametrize(("count", "compiled"), [(0, 1), (1, 1), (2, 4), (4, 4), (5, 16), (16, 16), (17, 32), (40, 48)])
def test_batches_are_filled_up_to_the_few_sizes_that_xla_compiles(count, compiled):
    assert endpoints._compiled_size(tf.constant(count)) == compiled
    filled = endpoints._with_rows(tf.ones((count, 2)), compiled).numpy()
    assert filled.shape == (compiled, 2)
    assert filled.sum() == 2 * count


@pytest.mark.thorough
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "bands"), [("PNG", 3), ("JPEG", 3), ("PNG", 4), ("WEBP", 4)])
def test_the_largest_pictures_are_decoded_two_at_once(kind, bands, channels):
    """Memory of four of 33 million pixels is that of two, for models of grey and of colours; `-s` prints it."""
    levels = np.linspace(0, 255, 5792).astype(np.uint8)  # of little noise: the file itself is small
    content = encoded(Image.fromarray(np.stack([np.broadcast_to(levels, (5792, 5792))] * bands, axis=2)), kind)
    shape = (*SHAPE[:2], channels)
    _, endpoints = Served(small_classifier(input_shape=shape), modality="image", shape=shape, settings={}).module()
    found = []
    for count in (1, 2, 4):
        memory = PeakMemory()
        assert endpoints["from_bytes"]({"encoded": tf.constant([content] * count)})["valid"].numpy().all()
        found.append(memory.measure() / 2**30)
    sizes = ", ".join(f"{size:.2f}" for size in found)
    print(f"{kind} of {bands} channels, model of {channels}: {sizes} GiB for one, two and four")
    assert found[2] < 1.5 * found[1] + 0.1
    assert found[1] < 1.25


def _is_hidden(name, examples):
    """Which numbers of an input are masked, by what stands beside it."""
    values = examples[name]
    if "points_padding_mask" in examples:
        return ~examples["points_padding_mask"][..., None]
    length = examples.get({"samples": "length", "frames": "frames_length"}.get(name))
    if length is None:
        return np.zeros(values.shape, bool)
    places = np.arange(values.shape[1]).reshape(-1, *[1] * (values.ndim - 2))
    return places >= length.reshape(-1, *[1] * (values.ndim - 1))


def test_an_export_with_xla_has_its_endpoint_compiled_compared_and_warmed_up(tmp_path):
    export = export_saved_model(small_classifier(), "animals", NAMES, shelf=tmp_path, xla=True)
    assert {"serving_default", "from_bytes", "embed", XLA, XLA + C_API} <= set(export.report["endpoints"])
    description = json.loads((export.folder / "assets.extra" / "perceiver.json").read_text())
    assert set(description["endpoints"]) == {"serving_default", "from_bytes", "embed", XLA}
    content = (export.folder / "saved_model.pb").read_bytes()
    assert b"_XlaMustCompile" in content
    assert "compiled by XLA" in (export.folder / "README.md").read_text()
    warm_up = (export.folder / "assets.extra" / WARM_UP).read_bytes()
    assert warm_up.count(XLA.encode()) == len(BATCH_SIZES)
