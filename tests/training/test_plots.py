"""Pictures of a run, with class names as strangers write them."""

import numpy as np
import pytest
from PIL import Image

from keras_perceiver.training.plots import plain, plot_confusion_matrix


@pytest.mark.parametrize("names", [["$a_b^c", "x\x1by", "猫"], [str(i) for i in range(300)]])
def test_a_confusion_matrix_of_any_names_and_number_is_drawn(tmp_path, names):
    plot_confusion_matrix(np.eye(len(names), dtype=int).tolist(), names, 1.0, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert max(image.size) <= 4500


def test_a_dollar_begins_no_formula():
    assert plain("$a\n") == r"\$a\n"
