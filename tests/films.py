"""Films for tests: each frame is of another brightness, so that it shows when it was."""

import io

import av
import numpy as np

CODECS = {"mp4": "mpeg4", "avi": "mpeg4", "mpeg": "mpeg2video", "webm": "libvpx-vp9", "matroska": "ffv1", "gif": "gif"}
SOUND_CODECS = {"webm": "libopus", "mpeg": "mp2", "avi": "pcm_s16le"}  # others have AAC
SOUND_RATE = 48_000
RATE, FRAMES, HEIGHT, WIDTH = 25, 23, 48, 64


def brightness(number):
    """Of frame `number`: (number + 1) * 10."""
    return (number + 1) * 10


def film(container, *, frames=FRAMES, rate=RATE, size=(HEIGHT, WIDTH), sound=None):
    """The bytes of a film of frames, each of one brightness, or of none; `sound` is (S,) samples at `SOUND_RATE`."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as file:
        tracks = [_frames(file, container, frames, rate, size)] if frames else []
        tracks += [] if sound is None else [sound_packets(file, container, sound)]
        for packets in tracks:  # all tracks must be known before the first packet
            next(packets)
        for packets in tracks:
            file.mux(list(packets))
    return stream.getvalue()


def _frames(file, container, frames, rate, size):
    """Yields when the track is known, and then its packets."""
    track = file.add_stream(CODECS[container], rate=rate)
    track.height, track.width = size
    track.pix_fmt = {"gif": "rgb8", "matroska": "bgr0"}.get(container, "yuv420p")
    yield
    for number in range(frames):
        pixels = np.full((*size, 3), min(brightness(number), 255), np.uint8)
        yield from track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
    yield from track.encode()


def sound_packets(file, container, samples):
    """Yields when the track is known, and then the packets of (S,) samples at `SOUND_RATE`."""
    track = file.add_stream(SOUND_CODECS.get(container, "aac"), rate=SOUND_RATE, layout="mono")
    yield
    values, sample_format = np.asarray(samples, np.float32)[None], track.format.name
    if sample_format.startswith("s16"):
        values = np.rint(values * 32767).astype(np.int16)
    for start in range(0, values.shape[1], 960):
        block = np.ascontiguousarray(values[:, start : start + 960])
        frame = av.AudioFrame.from_ndarray(block, format=sample_format, layout="mono")
        frame.sample_rate, frame.pts = SOUND_RATE, start
        yield from track.encode(frame)
    yield from track.encode()
