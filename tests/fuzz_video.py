"""Films for `fuzz.py`: a short one in every format, and what may become of a mutant."""

import av
from films import CODECS, film
from fuzz_agreement import scanned_and_read

from keras_perceiver.data.video import read_video, scan_video

SHAPE = (3, 5, 7, 3)


def valid_files():
    """`{name: bytes}` of a film of five frames in every format, and in H.264 where FFmpeg is built with its encoder."""
    files = {f"{kind} film": film(kind, frames=5, size=(32, 48)) for kind in CODECS}
    files["bare mpeg film"] = film("mpeg2video", frames=5, size=(32, 48), codec="mpeg2video")
    if "libx264" in av.codecs_available:
        files["h264 film"] = film("mp4", frames=5, size=(32, 48), codec="libx264", b_frames=1)
    return files


def outcome(content):
    """ "frames" or "refused"; whatever else is raised goes through."""
    found = scanned_and_read(scan_video, lambda file: read_video(file, SHAPE), content)
    if found is None:
        return "refused"
    facts, clip = found
    assert facts["low"] <= facts["high"]
    assert facts["frames"] > 0 <= facts["seconds"]
    assert clip.shape == SHAPE
    return "frames"
