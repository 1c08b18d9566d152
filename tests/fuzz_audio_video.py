"""Films with sound for `fuzz.py`: a short one in several formats, and what may become of a mutant."""

from films import CODECS, SOUND_RATE, film
from fuzz_agreement import scanned_and_read
from sounds import sine

from keras_perceiver._checks import InputError
from keras_perceiver.data.audio import MAX_SECONDS
from keras_perceiver.data.audio_files import decode_audio
from keras_perceiver.data.audio_video import read_audio_video, scan_audio_video

SHAPE = (2, 5, 7, 3, 1280, 8000, 5)


def valid_files():
    """`{name: bytes}`."""
    sound = sine(440, 0.2, SOUND_RATE)
    kinds = [kind for kind in CODECS if kind != "gif"]
    return {f"{kind} film with sound": film(kind, frames=5, size=(32, 48), sound=sound) for kind in kinds}


def outcome(content):
    """ "frames" or "refused"; whatever else is raised goes through."""
    found = scanned_and_read(scan_audio_video, lambda file: read_audio_video(file, SHAPE), content)
    if found is None:
        return "refused"
    facts, example = found
    assert facts["has_sound"]
    assert 1 <= example["frames_length"] <= 5
    assert 1 <= example["length"] <= len(example["samples"])
    return "frames"


def outcome_of_sound(content):
    """The same where the sound alone is wanted: "samples" or "refused"."""
    try:
        samples, rate, _ = decode_audio(content, None, MAX_SECONDS, is_film=True)
    except InputError:
        return "refused"
    assert 0 < len(samples) <= MAX_SECONDS * rate
    return "samples"
