"""Films for tests: each frame is of another brightness, so that it shows when it was."""

import io

import av
import numpy as np

CODECS = {"mp4": "mpeg4", "avi": "mpeg4", "mpeg": "mpeg2video", "webm": "libvpx-vp9", "matroska": "ffv1", "gif": "gif"}
RATE, FRAMES, HEIGHT, WIDTH = 25, 23, 48, 64


def brightness(number):
    """Of frame `number`: (number + 1) * 10."""
    return (number + 1) * 10


def film(container, *, frames=FRAMES, rate=RATE, size=(HEIGHT, WIDTH), sound_only=False):
    """The bytes of a film of frames, each of one brightness."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as file:
        (_write_sound if sound_only else _write_frames)(file, container, frames, rate, size)
    return stream.getvalue()


def _write_frames(file, container, frames, rate, size):
    track = file.add_stream(CODECS[container], rate=rate)
    track.height, track.width = size
    track.pix_fmt = {"gif": "rgb8", "matroska": "bgr0"}.get(container, "yuv420p")
    for number in range(frames):
        pixels = np.full((*size, 3), min(brightness(number), 255), np.uint8)
        file.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    file.mux(track.encode())


def _write_sound(file, *_):
    track = file.add_stream("aac", rate=8000)
    sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    sound.sample_rate, sound.pts = 8000, 0
    file.mux([*track.encode(sound), *track.encode()])
