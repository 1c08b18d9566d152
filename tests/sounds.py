"""Sound files that the tests make: sines, encoded by PyAV or the `wave` module."""

import io
import wave

import av
import numpy as np

CODECS = {  # by the name of the format: container, codec, sample format
    "wav": ("wav", "pcm_s16le", "s16"),
    "flac": ("flac", "flac", "s16"),
    "ogg": ("ogg", "libopus", "flt"),
    "vorbis": ("ogg", "vorbis", "fltp"),  # of two channels alone, and still an experiment
    "mp3": ("mp3", "libmp3lame", "fltp"),
    "aac": ("adts", "aac", "fltp"),
    "m4a": ("mp4", "aac", "fltp"),
}


def sine(hertz, seconds, rate, amplitude=0.5):
    """(S,) float64."""
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def wav_bytes(samples, rate, width=2):
    """A WAV file of (S,) or (S, channels) float in [-1, 1) with `width` bytes a sample."""
    samples = np.asarray(samples, np.float64)
    samples = samples[:, None] if samples.ndim == 1 else samples
    if width == 1:
        content = (np.rint(samples * 128) + 128).clip(0, 255).astype(np.uint8).tobytes()
    else:
        whole = np.rint(samples * 2.0 ** (8 * width - 1)).clip(-(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1)
        content = whole.astype("<i8").reshape(-1, 1).view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)
    return stream.getvalue()


def encoded(samples, rate, kind):
    """A file of one of `CODECS` with one channel, or of Vorbis with two that are alike, (S,) float in [-1, 1)."""
    container_format, codec, sample_format = CODECS[kind]
    stream = io.BytesIO()
    with av.open(stream, "w", format=container_format) as container:
        layout = "stereo" if codec == "vorbis" else "mono"
        track = container.add_stream(codec, rate=rate, layout=layout, options={"strict": "experimental"})
        values = np.tile(np.asarray(samples, np.float32), (track.layout.nb_channels, 1))
        if sample_format == "s16":
            values = np.rint(values * 32768).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(values, format=sample_format, layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for packet in (*track.encode(frame), *track.encode(None)):
            container.mux(packet)
    return stream.getvalue()


def write_sounds(folder, counts, seconds=0.3, rate=8000):
    """Writes `<class>/<number>.wav`, a sine of another height for each class and a little another for each file."""
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            samples = sine(300 * 2**number + 3 * i, seconds + 0.01 * (i % 5), rate)
            (folder / name / f"{i}.wav").write_bytes(wav_bytes(samples, rate))
