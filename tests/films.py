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


def film(
    container,
    *,
    frames=FRAMES,
    rate=RATE,
    size=(HEIGHT, WIDTH),
    sound=None,
    shift=None,
    codec=None,
    group=None,
    b_frames=0,
    texture=False,
    options=None,
):
    """The bytes of a film of frames, each of one brightness, or of none.

    Args:
        sound: (S,) samples at `SOUND_RATE`.
        shift: function of the time of a block of sound, in seconds, that returns how much later it is to be heard.
        codec: of the frames, in place of that of `CODECS`; `options` are its own.
        group: frames from one key frame to the next.
        b_frames: how many frames in a row may be coded behind one that is seen after them.
        texture: whether frames have one, which stays while they become brighter by 2: encoders see no other scene.
    """
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as file:
        tracks = []
        if frames:
            track = file.add_stream(codec or CODECS[container], rate=rate, options=options or {})
            track.height, track.width = size
            track.pix_fmt = (
                {"gif": "rgb8", "matroska": "bgr0"}.get(container, "yuv420p") if codec is None else "yuv420p"
            )
            if group:
                track.gop_size = group
            if codec:
                track.max_b_frames = b_frames
            tracks.append(_frames(track, frames, size, texture))
        tracks += [] if sound is None else [sound_packets(file, container, sound, shift)]
        for packets in tracks:  # all tracks must be known before the first packet
            next(packets)
        for packets in tracks:
            file.mux(list(packets))
    return stream.getvalue()


def _frames(track, frames, size, texture):
    """Yields when the track is known, and then its packets."""
    blocks = np.random.default_rng(0).integers(0, 100, (6, 8, 3), np.uint8)
    base = blocks.repeat(size[0] // 6, 0).repeat(size[1] // 8, 1)
    yield
    for number in range(frames):
        pixels = np.full((*size, 3), min(brightness(number), 255), np.uint8)
        if texture:
            pixels = base + np.uint8(2 * number)
        yield from track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
    yield from track.encode()


def broken_from(content, number):
    """A film whose coded frames from that one on are zeros."""
    with av.open(io.BytesIO(content)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    changed, place = bytearray(content), 0
    for i, packet in enumerate(packets):
        place = content.index(packet, place)
        if i >= number:
            changed[place : place + len(packet)] = bytes(len(packet))
        place += len(packet)
    return bytes(changed)


def sound_packets(file, container, samples, shift=None):
    """Yields when the track is known, and then the packets of (S,) samples at `SOUND_RATE`; see `film`."""
    track = file.add_stream(SOUND_CODECS.get(container, "aac"), rate=SOUND_RATE, layout="mono")
    yield
    values, sample_format = np.asarray(samples, np.float32)[None], track.format.name
    if sample_format.startswith("s16"):
        values = np.rint(values * 32767).astype(np.int16)
    frames = []
    for start in range(0, values.shape[1], 960):
        block = np.ascontiguousarray(values[:, start : start + 960])
        frame = av.AudioFrame.from_ndarray(block, format=sample_format, layout="mono")
        frame.sample_rate, frame.pts = SOUND_RATE, start
        frames.append(frame)
    for frame in (*frames, None):
        for packet in track.encode(frame):
            later = 0 if shift is None else round(shift(float(packet.pts * packet.time_base)) / packet.time_base)
            packet.pts, packet.dts = packet.pts + later, packet.dts + later
            yield packet
