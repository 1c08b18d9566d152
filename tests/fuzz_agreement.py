"""What the scan of a file and its reader must agree on, for `fuzz.py`."""

from keras_perceiver._checks import InputError


def scanned_and_read(scan, read, content):
    """`(facts, example)`, or None where the file is refused by both; what one can read the other must read."""
    results = []
    for function in (scan, read):
        try:
            results.append(function(content))
        except InputError:
            results.append(None)
    facts, example = results
    assert (facts is None) == (example is None), "the scan and the reader must agree on what can be read"
    return None if facts is None else (facts, example)
