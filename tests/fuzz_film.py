"""Films at a given rate for `fuzz.py`, of which a part is decoded, and what may become of a mutant."""

from films import film
from fuzz_agreement import scanned_and_read

from keras_perceiver.data.video import scan_video
from keras_perceiver.data.video_windows import read_film

SHAPE = (2, 5, 7, 3, 3, 2)  # two frames a second


def valid_files():
    """`{name: bytes}` of a film of 31 frames, of which every sixth is a key frame."""
    content = film("matroska", frames=31, size=(32, 48), codec="mpeg4", group=6, b_frames=2)
    return {"film at a rate": content}


def outcome(content):
    """ "frames" or "refused"; whatever else is raised goes through."""
    found = scanned_and_read(scan_video, lambda file: read_film(file, SHAPE), content)
    if found is None:
        return "refused"
    facts, example = found
    assert facts["frames"] > 0 <= facts["seconds"]
    assert 1 <= example["frames_length"] <= 3
    return "frames"
