"""Sounds for `fuzz.py`: a short tone in every format, and what may become of a mutant."""

import numpy as np
from fuzz_agreement import scanned_and_read
from sounds import CODECS, encoded, sine, wav_bytes

from keras_perceiver.data.audio import read_audio, scan_audio

RATE = 8000
SHAPE = (512, 11_025, 1500)  # resampled, and cut off


def valid_files():
    """`{name: bytes}` of one tone in every format and in its kinds that are decoded differently."""
    tone = sine(440, 0.2, RATE)
    stereo = np.stack([tone, -0.5 * tone], axis=1)
    files = {kind: encoded(tone, RATE, kind) for kind in CODECS}
    return files | {"8 bit wav": wav_bytes(tone, RATE, 1), "24 bit stereo wav": wav_bytes(stereo, RATE, 3)}


def outcome(content):
    """ "samples" or "refused"; whatever else is raised goes through."""
    found = scanned_and_read(scan_audio, lambda file: read_audio(file, SHAPE), content)
    if found is None:
        return "refused"
    facts, example = found
    assert -1 <= facts["low"] <= facts["high"] <= 1
    assert 0 < example["length"] <= SHAPE[2]
    assert not example["samples"][example["length"] :].any()
    return "samples"
