"""The history of a run in files: for spreadsheets, and for programs that read line by line."""

import csv
import io
import json
import math

from keras_perceiver._files import write_atomically


def write_history(folder, rows):
    """Writes `history.csv`, a row an epoch, and `history.jsonl`, an object of JSON a line.

    Args:
        folder: `pathlib.Path`.
        rows: dictionaries of numbers, one for each epoch; what one of them lacks is empty there. In JSON, which has no
            NaN, what is not finite is null.

    Raises:
        InputError: where a file cannot be written; what was there stays.
    """
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, fieldnames=names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "history.csv", text.getvalue())
    lines = [json.dumps({name: value if math.isfinite(value) else None for name, value in row.items()}) for row in rows]
    write_atomically(folder / "history.jsonl", "".join(f"{line}\n" for line in lines))
