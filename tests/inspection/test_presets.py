"""The list of models: the paper's figures, and what is ours is marked."""

import io

import keras
import pytest
from rich.console import Console

from keras_perceiver.inspection import list_presets, presets_table
from keras_perceiver.models import PRESETS


@pytest.fixture(scope="module")
def summaries():
    return {summary.name: summary for summary in list_presets()}


def test_every_model_is_listed_with_the_papers_figures(summaries):
    assert list(summaries) == list(PRESETS)
    imagenet = summaries["imagenet"]
    assert imagenet.parameters == summaries["imagenet_permuted"].parameters == 44_912_254
    assert imagenet.textbook_flops / 1e9 == pytest.approx(706.3, abs=0.05)
    channels = 3 + 128  # of a byte with its learned position
    cross_attend = (
        2 * channels * 1024 + channels + 1024 + 2 * (channels**2 + channels)
    )  # query and output; key and value
    cross_attend += 2 * (1024**2 + 1024) + 2 * 2 * 1024 + 2 * channels  # the MLP and three LayerNorms
    learned = 42_135_859 - 2_776_395 + cross_attend + 224 * 224 * 128
    assert summaries["imagenet_learned"].parameters == learned


def test_the_table_says_what_is_ours(summaries):
    written = io.StringIO()
    Console(width=160, file=written).print(presets_table(summaries.values()))
    text = written.getvalue()
    for part in ("44,912,254", "706.28", "224x224x3", "appendix C", "latent_dim", "video 32x224x224x3"):
        assert part in text


def test_the_global_policy_stays():
    keras.config.set_dtype_policy("mixed_bfloat16")
    list_presets(("digits",))
    assert keras.config.dtype_policy() == keras.DTypePolicy("mixed_bfloat16")
