import numpy as np
import oracle
import pytest
from layer_checks import check_layer, randomised

from keras_perceiver import ModalityEncoding, byte_arrays
from keras_perceiver._checks import InputTypeError

RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype("float32")


# Channels: audio 5 + 2 = 7, video 3 + 11 + 2 = 16, so 9 + 4 learned channels for audio and 4 for video.
BYTES = {
    "video": {"content": floats(2, 3, 2, 3), "tables": [floats(3, 1, 11), floats(1, 2, 2)]},
    "audio": {"content": floats(2, 7, 5), "tables": [floats(7, 2)], "padding_mask": RNG.random((2, 7)) < 0.5},
}


def dtypes(compute):  # audio: content, mask, table, vector; video: content, two tables, vector
    vector = "float64" if compute == "float64" else "float32"
    return ["float32", "bool", "float32", vector, "float32", "float32", "float32", vector]


def test_it_is_a_layer(tmp_path):
    arguments = {"min_channels": 4, "initial_std": 0.5}
    # The same order as in the outputs: `keras.tree` sorts keys.
    inputs = {"byte_array": {name: dict(sorted(BYTES[name].items())) for name in sorted(BYTES)}}
    check_layer(tmp_path, ModalityEncoding, arguments, inputs, output_dtypes=dtypes)


def test_all_modalities_come_to_the_same_width():
    layer = randomised(ModalityEncoding(4, name="layer"), {"byte_array": BYTES})
    weights = oracle.weights_of(layer)
    assert {name: w.shape for name, w in weights.items()} == {"audio_vector": (13,), "video_vector": (4,)}
    encoded = layer(BYTES)
    for name, (content, tables) in {n: (s["content"], s["tables"]) for n, s in BYTES.items()}.items():
        sizes = content.shape[1:-1]
        full = [np.broadcast_to(t, (*sizes, t.shape[-1])) for t in tables]
        full.append(np.broadcast_to(weights[f"{name}_vector"], (*sizes, len(weights[f"{name}_vector"]))))
        unmasked = {key: value for key, value in encoded[name].items() if key != "padding_mask"}
        rows, _ = byte_arrays.materialize(unmasked, "float32")
        np.testing.assert_allclose(rows, oracle.byte_rows(content, *full), atol=1e-6)
        assert rows.shape[-1] == 20


def test_the_mask_is_handed_on():
    encoded = ModalityEncoding()(BYTES)
    np.testing.assert_array_equal(encoded["audio"]["padding_mask"], BYTES["audio"]["padding_mask"])
    assert "padding_mask" not in encoded["video"]


def test_the_paper_s_width_of_audio_and_video():
    # Raw audio: 480 vectors of 128; video: 12,544 patches of 384, 16 bands on three axes. Section 1: 487.
    video = {"content": np.zeros((1, 1, 384), "float32"), "tables": [np.zeros((1, 3 * 33), "float32")]}
    audio = {"content": np.zeros((1, 1, 128), "float32"), "tables": [np.zeros((1, 2 * 64 + 1), "float32")]}
    encoded = ModalityEncoding()({"audio": audio, "video": video})
    assert {byte_arrays.num_channels(_shapes(encoded))} == {487}


def test_the_order_of_the_modalities_does_not_matter():
    layer = randomised(ModalityEncoding(), {"byte_array": BYTES})
    there, back = layer(BYTES), layer(dict(reversed(BYTES.items())))
    for name in BYTES:
        np.testing.assert_array_equal(there[name]["tables"][-1], back[name]["tables"][-1])


@pytest.mark.parametrize("byte_array", [floats(2, 7, 5), BYTES["audio"]], ids=["tensor", "lone segment"])
def test_it_takes_modalities_only(byte_array):
    with pytest.raises(InputTypeError, match="`byte_array` must be a dictionary of segments by modality"):
        ModalityEncoding()(byte_array)


def _shapes(encoded):
    return {
        name: {"content": s["content"].shape, "tables": [t.shape for t in s["tables"]]} for name, s in encoded.items()
    }
