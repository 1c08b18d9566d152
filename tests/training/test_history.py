"""The history in files: what Keras' own reader and a plain program find in them."""

import csv
import json
import math

from keras_perceiver.training import write_history


def test_both_files_say_the_same_and_what_is_no_number_is_null(tmp_path):
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": math.nan, "val_loss": math.inf}]
    write_history(tmp_path, rows)
    table = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert [row["loss"] for row in table] == [repr(0.1 + 0.2), "nan"]
    assert [row["val_loss"] for row in table] == ["", "inf"]

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    lines = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines == [rows[0], {"epoch": 2, "loss": None, "val_loss": None}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "history.jsonl"]
