"""The weights of models, by name and shape: saved files of users depend on every line.

To accept a change: `pytest tests/models/test_golden.py --update-golden`.
"""

import pytest
from layer_checks import SMALL_MODEL, shapes_only

from keras_perceiver import build_classifier, build_preset
from keras_perceiver.models import PRESETS

SMALL = {
    "small_fourier": {"input_shape": (7, 3, 5), "num_self_attention_layers": 2},
    "small_learned_unshared": {
        "input_shape": (7, 3, 5),
        "positions": "learned",
        "position_channels": 11,
        "share_weights": False,
        "cross_attend_placement": "start",
    },
    "small_modalities": {
        "input_shape": {"video": (3, 2, 2, 3), "audio": (7, 5)},
        "padding_mask": True,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 7,
        "widening_factor": 3,
    },
    "small_crosses_only": {"input_shape": (7, 5), "positions": "none", "num_self_attention_layers": 0},
}


@pytest.mark.parametrize("name", SMALL)
def test_small_models(golden, name):
    with shapes_only():
        golden(name, build_classifier(num_classes=13, **{**SMALL_MODEL, **SMALL[name]}))


@pytest.mark.parametrize(
    "name", sorted(PRESETS.keys() - {"image", "audio", "video", "points"})
)  # for data of any shape
def test_presets(golden, name):
    with shapes_only():
        golden(name, build_preset(name))
