"""Films for `fuzz.py`: a short one in every format, and what may become of a mutant."""

from films import CODECS, film

from keras_perceiver._checks import InputError
from keras_perceiver.data.video import read_video, scan_video

SHAPE = (3, 5, 7, 3)


def valid_files():
    """`{name: bytes}` of a film of five frames in every format."""
    return {f"{kind} film": film(kind, frames=5, size=(32, 48)) for kind in CODECS}


def outcome(content):
    """ "frames" or "refused"; whatever else is raised goes through."""
    try:
        facts = scan_video(content)
    except InputError:
        facts = None
    else:
        assert facts["low"] <= facts["high"]
        assert facts["frames"] > 0 <= facts["seconds"]
    try:
        clip = read_video(content, SHAPE)
    except InputError:
        assert facts is None, "what the scan could read must be readable"
        return "refused"
    assert facts is not None, "what can be read must be read in the scan"
    assert clip.shape == SHAPE
    return "frames"
