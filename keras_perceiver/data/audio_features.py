"""What stands between samples of sound and the model, and what happens to them in training."""

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import require, require_between, require_one_of, require_positive
from keras_perceiver.data.audio import hop_of, random_start, take_window
from keras_perceiver.data.drawing import highlighted
from keras_perceiver.data.tensorflow_io import fade, mel_scale, spectrogram, trim

AUDIO_INPUTS = ("log_mel", "raw")
NUM_MEL_BINS = 64
LOWEST = 40.0  # hertz of the mel scale; its end is half the rate
FFT_LENGTH = 512  # samples of a frame of the spectrogram that is drawn of raw samples
FLOOR = 1e-3  # is added to magnitudes before the logarithm: far below what is heard in 16 bits


def preprocess_audio(shape, *, audio_input=None, num_mel_bins=None, mel_hop=None, trim_threshold=None):
    """What stands between samples and the model: a function of windows, one or a batch.

    The tf.data pipeline and the exported SavedModel both call it. What lies behind a sound's end is silence, whatever
    stands there, and masked: a sample by its index, a frame where it begins behind the end.

    Args:
        shape: (window, sample_rate, kept), see `choose_audio_shape`.
        audio_input: "log_mel" (None too), which is scaled to mean 0 and standard deviation 1 over the real frames of
            each window; or "raw" samples.
        num_mel_bins: F; None for 64.
        mel_hop: samples from one of the T frames to the next, which divide the window; None for about 10 ms.
        trim_threshold: in (0, 1): what is not louder at the beginning and the end of a window is cut off; None for
            nothing.

    Returns:
        Function `{"samples": (.., window) float32 in [-1, 1], "length": (..) int}` -> `{"audio": (.., T, F, 1) or
        (.., window, 1) float32, "audio_padding_mask": (.., T, F) or (.., window) bool}`.
    """
    window, rate, _ = shape
    audio_input, num_bins = audio_input or "log_mel", num_mel_bins or NUM_MEL_BINS
    require_one_of(AUDIO_INPUTS, audio_input=audio_input)
    require_positive(num_mel_bins=num_bins)
    if trim_threshold is not None:
        require_between(0, 1, trim_threshold=trim_threshold)
    hop = hop_of(rate) if mel_hop is None else mel_hop
    require_positive(mel_hop=hop)
    require(
        mel_hop is None or window % hop == 0,
        "`mel_hop` must divide the samples of a window",
        mel_hop=hop,
        window=window,
    )
    frames = window // hop

    def raw(clips):
        mask = tf.range(window) < clips["length"][..., None]
        return {"audio": tf.where(mask, clips["samples"], 0.0)[..., None], "audio_padding_mask": mask}

    def log_mel(clips):
        mask = tf.range(frames) * hop < clips["length"][..., None]  # (.., T)
        samples = raw(clips)["audio"][..., 0]
        mel = tf.math.log(log_mel_magnitudes(samples, rate, num_bins, hop) + FLOOR)  # (.., T, F)
        real = tf.cast(mask[..., None], tf.float32)
        count = tf.maximum(tf.reduce_sum(real, (-2, -1), keepdims=True) * num_bins, 1.0)
        mean = tf.reduce_sum(mel * real, (-2, -1), keepdims=True) / count
        centred = (mel - mean) * real
        scale = tf.math.rsqrt(tf.reduce_sum(centred**2, (-2, -1), keepdims=True) / count + 1e-5)
        return {
            "audio": (centred * scale)[..., None],
            "audio_padding_mask": mask[..., None] & tf.ones((num_bins,), tf.bool),
        }

    make = raw if audio_input == "raw" else log_mel
    return make if trim_threshold is None else lambda clips: make(without_silence(clips, trim_threshold))


def are_frames_kept(preprocess, augment):
    """Whether log-mel frames of whole sounds are the same in every epoch: nothing happens to samples before them."""
    return (preprocess.get("audio_input") or "log_mel") == "log_mel" and not any(augment.values())


def without_silence(clips, threshold):
    """Windows `{"samples": (.., window), "length": (..)}` from their first sample that is louder to their last; silent
    ones stay as they are. What lies behind a sound's end is silence."""
    window = clips["samples"].shape[-1]
    samples, length = tf.reshape(clips["samples"], (-1, window)), tf.reshape(clips["length"], (-1,))
    samples = tf.where(tf.range(window, dtype=length.dtype) < length[:, None], samples, 0.0)
    start, stop = tf.unstack(tf.cast(trim(samples, threshold), length.dtype), axis=1)
    start, stop = tf.where(start < stop, start, 0), tf.where(start < stop, stop, length)
    places = tf.range(window) + tf.cast(start, tf.int32)[:, None]
    moved = tf.gather(samples, tf.minimum(places, window - 1), batch_dims=1)
    moved = tf.where(places < tf.cast(stop, tf.int32)[:, None], moved, 0.0)
    return {
        "samples": tf.ensure_shape(tf.reshape(moved, tf.shape(clips["samples"])), clips["samples"].shape),
        "length": tf.reshape(stop - start, tf.shape(clips["length"])),
    }


def log_mel_magnitudes(samples, rate, num_bins, hop):
    """(.., S) -> (.., S / hop, num_bins): magnitudes on the mel scale, before the logarithm. A frame is as long as 2.5
    hops."""
    frame_length = 5 * hop // 2  # 25 ms, where the hop is 10
    fft_length = 1 << (frame_length - 1).bit_length()
    flat = tf.reshape(samples, (-1, samples.shape[-1]))
    mel = mel_scale(spectrogram(flat, fft_length, frame_length, hop), rate, num_bins, min(LOWEST, rate / 8), rate / 2)
    # Lengths are written out: what converts a model must know all of them but the batch.
    return tf.reshape(mel, tf.concat([tf.shape(samples)[:-1], [-(-samples.shape[-1] // hop), num_bins]], 0))


def augment_audio(shape, *, fade_share=0.0, noise_std=0.0):
    """What happens to one sound of a training batch: a random window, a fade at both ends, and white noise.

    Args:
        shape: (window, sample_rate, kept).
        fade_share: in [0, 1): share of the window over which a sound becomes louder at its beginning, and quieter at
            its end, at most: how long is drawn for each.
        noise_std: of Gaussian noise, as a share of the full scale.

    Returns:
        Function `(one example of `read_audio`, (2,) int32 seed)` -> one window for `preprocess_audio`.
    """
    require_between(0, 1, fade_share=fade_share)
    window, add_noise = shape[0], white_noise(noise_std)

    def augment(example, seed):
        clip = take_window(example, window, random_start(example["length"] - window, seed))
        samples = random_fade(clip, seed, fade_share) if fade_share else clip["samples"]
        return {**clip, "samples": add_noise(samples, seed)}

    return augment


def random_fade(clip, seed, share):
    """The samples of a window, (S,), that become louder at their beginning and quieter at their end, linearly."""
    samples, length = clip["samples"], clip["length"]
    draws = tf.random.stateless_uniform((2,), tf.add(seed, [2, 0])) * share * tf.cast(length, tf.float32)
    fade_in, fade_out = tf.unstack(1 + tf.cast(draws, tf.int32))
    faded = fade(samples[:length], fade_in, fade_out)
    return tf.ensure_shape(tf.pad(faded, [[0, samples.shape[0] - length]]), samples.shape)


def white_noise(std):
    """Function of (S,) samples and a (2,) int32 seed that adds Gaussian noise."""

    def add(samples, seed):
        return samples + std * tf.random.stateless_normal(samples.shape, tf.add(seed, [1, 0])) if std else samples

    return add


def spec_augment(*, time_masks=0, frequency_masks=0, time_mask_share=0.2, frequency_mask_share=0.2):
    """SpecAugment (Park et al. 2019) of a preprocessed batch: stretches of frames and bands of bins become zero, the
    mean. Of raw samples only stretches of time are hidden. Masks follow from the seed alone, unlike those of
    tensorflow-io, which keep a random state.

    Args:
        time_masks: how many for each example.
        frequency_masks: how many for each example.
        time_mask_share: the longest one, as a share of the window.
        frequency_mask_share: the widest one, as a share of the bins.

    Returns:
        Function `(batch of preprocess_audio, (2,) int32 seed) -> batch`, or None.
    """
    if not (time_masks or frequency_masks):
        return None

    def augment(batch, seed):
        audio = batch["audio"]
        axes = [(1, time_masks, time_mask_share)]
        if len(audio.shape) == 4:
            axes.append((2, frequency_masks, frequency_mask_share))
        for axis, count, share in axes:
            for number in range(count):
                keep = _kept(audio.shape[0], audio.shape[axis], share, tf.add(seed, [10 * axis + number, 0]))
                ones = [1] * (len(audio.shape) - axis - 1)
                audio *= tf.reshape(keep, [audio.shape[0], *[1] * (axis - 1), audio.shape[axis], *ones])
        return {**batch, "audio": audio}

    return augment


def _kept(batch, length, share, seed):
    """(B, length) float32: 0 in one stretch of each row, of a width from 0 to `share` of it, 1 elsewhere."""
    draws = tf.random.stateless_uniform((batch, 2), seed)
    width = draws[:, :1] * (share * length)
    start = draws[:, 1:] * (length - width)
    place = tf.range(length, dtype=tf.float32)
    return tf.cast((place < start) | (place >= start + width), tf.float32)


def draw_audio(axes, example, weights=None, clip=None):
    """Draws the real part of a preprocessed sound: its log-mel frames, or its samples.

    With `clip`, the window that it was made of, the waveform stands above the log-mel frames, or above the spectrogram
    of raw samples, on the same axis of time.
    With `weights` of its bytes, (t, f) or (t,), the sound is grey, and they are laid over it.
    """
    audio = np.where(example["audio_padding_mask"], np.asarray(example["audio"])[..., 0], np.nan)
    if audio.ndim == 1:
        if clip is not None:
            _draw_spectrogram(_part(axes, 0, 0.6), audio)
            axes = _part(axes, 0.62, 0.38)
        _draw_waveform(axes, audio, "#4878a8" if weights is None else "grey")
        if weights is not None:
            axes.imshow(highlighted(weights, audio.shape)[None], aspect="auto", extent=(0, len(audio), -1, 1))
        return
    if clip is not None:
        samples = np.asarray(clip["samples"], np.float64)
        _draw_waveform(_part(axes, 0.62, 0.38), np.where(np.arange(len(samples)) < clip["length"], samples, np.nan))
        axes = _part(axes, 0, 0.6)
    axes.imshow(audio.T, origin="lower", aspect="auto", cmap="magma" if weights is None else "gray")
    if weights is not None:
        axes.imshow(highlighted(weights, audio.shape).transpose(1, 0, 2), origin="lower", aspect="auto")


def _draw_waveform(axes, samples, color="#4878a8"):
    """(S,) samples, NaN where there are none; a quiet sound is drawn as high as a loud one."""
    loudest = np.nanmax(np.abs(samples), initial=1e-3)
    axes.axhline(0, linewidth=0.4, color="lightgrey")
    axes.plot(samples, linewidth=0.4, color=color)
    axes.set(xlim=(0, len(samples)), ylim=(-1.05 * loudest, 1.05 * loudest))


def _draw_spectrogram(axes, samples):
    """(S,) samples, NaN where there are none: decibels of frequencies from 0 to half the rate, 80 of them visible."""
    is_real = ~np.isnan(samples)
    hop = max(1, min(FFT_LENGTH // 4, len(samples) // 128))
    magnitudes = spectrogram(np.where(is_real, samples, 0.0).astype(np.float32)[None], FFT_LENGTH, FFT_LENGTH, hop)[0]
    decibels = 20 * np.log10(np.maximum(magnitudes, 1e-6))
    decibels[~is_real[::hop]] = np.nan
    loudest = np.nanmax(decibels, initial=-120.0)
    axes.imshow(decibels.T, origin="lower", aspect="auto", cmap="magma", vmin=loudest - 80, vmax=loudest)


def _part(axes, bottom, height):
    """A part of a drawing as wide as the whole, without ticks."""
    inner = axes.inset_axes([0, bottom, 1, height])
    inner.set(xticks=[], yticks=[])
    inner.spines[:].set_visible(False)
    return inner
