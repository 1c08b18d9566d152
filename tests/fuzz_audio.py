"""Sounds for `fuzz.py`: a short tone in every format, and what may become of a mutant."""

import numpy as np
from fuzz_agreement import scanned_and_read
from sounds import CODECS, encoded, sine, wav_bytes

from keras_perceiver.data.audio import read_audio, scan_audio

RATE = 8000
OGG, OGG_SUM, OGG_SEGMENTS = b"OggS", slice(22, 26), 27  # what a page of Ogg begins with, its checksum, its sizes
SHAPE = (512, 11_025, 1500)  # resampled, and cut off


def valid_files():
    """`{name: bytes}` of one tone in every format and in its kinds that are decoded differently."""
    tone = sine(440, 0.2, RATE)
    stereo = np.stack([tone, -0.5 * tone], axis=1)
    files = {kind: encoded(tone, RATE, kind) for kind in CODECS}
    return files | {"8 bit wav": wav_bytes(tone, RATE, 1), "24 bit stereo wav": wav_bytes(stereo, RATE, 3)}


def with_checksums(content):
    """The pages of an Ogg file with checksums that are right: else nothing of a mutant would reach a decoder."""
    content, start = bytearray(content), 0
    while content[start : start + 4] == OGG and len(content) > start + OGG_SEGMENTS:
        sizes = content[start + OGG_SEGMENTS :][: content[start + OGG_SEGMENTS - 1]]
        page = content[start : start + OGG_SEGMENTS + len(sizes) + sum(sizes)]
        page[OGG_SUM] = bytes(4)
        page[OGG_SUM] = checksum(page).to_bytes(4, "little")
        content[start : start + len(page)] = page
        start += len(page)
    return bytes(content)


def checksum(page):
    """CRC-32 as Ogg has it: the highest bit first, begun with zero and not inverted."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x104C11DB7 if value & 0x80000000 else 0)
    return value


def outcome(content):
    """ "samples" or "refused"; whatever else is raised goes through."""
    content = with_checksums(content)
    found = scanned_and_read(scan_audio, lambda file: read_audio(file, SHAPE), content)
    if found is None:
        return "refused"
    facts, example = found
    assert -1 <= facts["low"] <= facts["high"] <= 1
    assert 0 < example["length"] <= SHAPE[2]
    assert not example["samples"][example["length"] :].any()
    return "samples"
