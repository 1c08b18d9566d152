"""Reading pictures, and what stands in front of a model."""

import io
import os
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, JpegImagePlugin

from keras_perceiver._checks import InputError
from keras_perceiver.data.images import (
    MAX_FILE_BYTES,
    MAX_JPEG_PIXELS,
    _check_size,
    choose_image_shape,
    normalize_pixels,
    permute_pixels,
    preprocess_images,
    read_image,
    scan_image,
)


def save(pixels, path, **options):
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def test_pixels_are_normalized_to_minus_one_and_one():
    np.testing.assert_allclose(normalize_pixels(tf.constant([0, 51, 255], tf.uint8)), [-1.0, -0.6, 1.0], atol=1e-6)


def test_a_picture_is_read_as_it_was_written(tmp_path):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    np.testing.assert_array_equal(read_image(save(grey, tmp_path / "a.png"), (2, 3, 1))[..., 0], grey)
    color = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10
    np.testing.assert_array_equal(read_image(save(color, tmp_path / "b.png"), (2, 3, 3)), color)


def test_colour_becomes_grey_and_grey_becomes_colour(tmp_path):
    red = np.zeros((2, 3, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_array_equal(read_image(save(red, tmp_path / "a.png"), (2, 3, 1)), np.full((2, 3, 1), 76.0))
    grey = np.full((2, 3), 7, np.uint8)
    np.testing.assert_array_equal(read_image(save(grey, tmp_path / "b.png"), (2, 3, 3)), np.full((2, 3, 3), 7.0))


def test_resizing_averages_areas(tmp_path):
    pixels = np.array([[0, 100, 8, 8], [0, 100, 8, 8]], np.uint8)
    np.testing.assert_array_equal(read_image(save(pixels, tmp_path / "a.png"), (1, 2, 1)).ravel(), [50, 8])


def test_invert_turns_dark_ink_on_white_into_light_ink_on_black(tmp_path):
    pixels = np.array([[255, 0]], np.uint8)
    np.testing.assert_array_equal(
        read_image(save(pixels, tmp_path / "a.png"), (1, 2, 1), invert=True).ravel(), [0, 255]
    )


@pytest.mark.parametrize("invert", [False, True])
def test_what_is_transparent_is_background(tmp_path, invert):
    pixels = np.zeros((1, 2, 4), np.uint8)
    pixels[0, 1] = (0, 0, 0, 255) if invert else (255, 255, 255, 255)  # ink, beside a transparent pixel
    image = read_image(save(pixels, tmp_path / "a.png"), (1, 2, 1), invert=invert)
    np.testing.assert_array_equal(image.ravel(), [0, 255])


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    pixels = np.array([[0, 257 * 100, 65535]], np.uint16)
    np.testing.assert_array_equal(read_image(save(pixels, tmp_path / "a.png"), (1, 3, 1)).ravel(), [0, 100, 255])


def test_the_orientation_of_the_camera_is_applied(tmp_path):
    pixels = np.array([[0, 255]], np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned by 90 degrees, counter-clockwise
    image = read_image(save(pixels, tmp_path / "a.png", exif=exif), (2, 1, 1))
    np.testing.assert_array_equal(image.ravel(), [255, 0])


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_what_is_no_picture_is_refused_by_name(tmp_path, content):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"a.png` must be a readable picture"):
        read_image(path, (8, 8, 1))


def test_a_truncated_picture_is_refused(tmp_path):
    path = save(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="readable picture"):
        read_image(path, (8, 8, 1))


# Every format, and what is rare within it


@pytest.mark.parametrize("name", ["a.png", "b.bmp", "c.gif", "d.webp", "a picture \u00e9 \u2603.PNG"])
def test_formats_without_loss_give_the_pixels_that_were_written(tmp_path, name):
    pixels = np.arange(6 * 7, dtype=np.uint8).reshape(6, 7) * 6
    options = {"lossless": True} if name.endswith("webp") else {}
    np.testing.assert_array_equal(read_image(save(pixels, tmp_path / name, **options), (6, 7, 1))[..., 0], pixels)


def test_bytes_are_read_like_the_file(tmp_path):
    path = save(np.full((3, 5), 77, np.uint8), tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(path.read_bytes(), (3, 5, 1)), read_image(path, (3, 5, 1)))


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = read_image(tmp_path / "a.jpg", (2, 2, 3))
    assert red[..., 0].min() > 245
    assert red[..., 1:].max() < 10


def test_a_transparent_colour_of_a_palette_is_background(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 9, 9, 9])
    image.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", (1, 2, 1)).ravel(), [0, 9])


def test_a_picture_of_one_pixel_fills_the_frame(tmp_path):
    np.testing.assert_array_equal(
        read_image(save(np.array([[[1, 2, 3]]], np.uint8), tmp_path / "a.png"), (2, 3, 3)), [[[1, 2, 3]] * 3] * 2
    )


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("L", (5, 5), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert set(read_image(tmp_path / "a.gif", (5, 5, 1)).ravel()) == {10.0}


def test_a_format_that_is_none_of_ours_is_refused(tmp_path):
    with pytest.raises(InputError, match="begins as none of these formats"):
        read_image(save(np.zeros((3, 3), np.uint8), tmp_path / "a.tiff"), (3, 3, 1))


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", tmp_path):
        with pytest.raises(InputError, match="readable picture"):
            read_image(path, (3, 3, 1))


# Size: bounded time and memory


def png_of_size(width, height):
    """The first bytes of a PNG that says it is so large."""
    stream = io.BytesIO()
    Image.new("1", (width, 1)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[20:24] = height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded():
    with pytest.raises(InputError, match="It has 20,000 x 20,000 pixels; such a file may have at most 33,554,432"):
        read_image(png_of_size(20_000, 20_000), (8, 8, 1))


def test_a_jpeg_that_is_too_large_or_progressive_is_refused():
    stream = io.BytesIO()
    Image.new("L", (16, 16)).save(stream, "JPEG")
    content = stream.getvalue()
    place = content.index(b"\xff\xc0") + 5  # height and width in the start of the frame
    huge = content[:place] + (30_000).to_bytes(2, "big") * 2 + content[place + 4 :]
    with pytest.raises(InputError, match=f"at most {MAX_JPEG_PIXELS:,}"):
        read_image(huge, (8, 8, 1))
    large = content[:place] + (20_000).to_bytes(2, "big") * 2 + content[place + 4 :]
    with pytest.raises(InputError, match="at most 33,554,432"):
        read_image(large.replace(b"\xff\xc0", b"\xff\xc2"), (8, 8, 1))


def test_a_jpeg_whose_colours_come_one_after_the_other_is_as_large_as_a_progressive_one():
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "JPEG")
    content = stream.getvalue()
    place = content.index(b"\xff\xc0") + 5
    large = content[:place] + (20_000).to_bytes(2, "big") * 2 + content[place + 4 :]
    scan = large.index(b"\xff\xda")
    assert large[scan + 2 : scan + 5] == b"\x00\x0c\x03"  # its three components come in one scan
    apart = large[:scan] + b"\xff\xda\x00\x08\x01" + large[scan + 5 : scan + 7] + large[scan + 11 :]
    with pytest.raises(InputError, match="20,000 x 20,000 pixels; such a file may have at most 33,554,432"):
        read_image(apart, (8, 8, 1))
    together = JpegImagePlugin.JpegImageFile(io.BytesIO(large))
    _check_size(together)  # and may be as large where they come together


def test_a_file_that_is_too_large_is_refused_before_it_is_opened(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # no byte of it is on disk
    with pytest.raises(InputError, match="It has 536,870,913 bytes; it may have at most 536,870,912"):
        read_image(tmp_path / "a.png", (8, 8, 1))


def test_of_riff_files_only_webp_is_tried():
    with pytest.raises(InputError, match="begins as none of these formats"):
        read_image(b"RIFF\x24\0\0\0WAVEfmt ", (8, 8, 1))


def test_a_large_jpeg_is_made_smaller_while_it_is_decoded(tmp_path):
    ramp = np.linspace(0, 255, 4000).astype(np.uint8)[None].repeat(4000, 0)
    path = save(ramp, tmp_path / "a.jpg", quality=90)
    np.testing.assert_allclose(read_image(path, (1, 5, 1)).ravel(), np.arange(5) * 51 + 25.5, atol=2)
    assert scan_image(path)["size"] == [4000, 4000]


# Facts and shapes


def test_the_facts_of_a_file_are_those_of_its_pixels(tmp_path):
    color = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10 + 5
    facts = scan_image(save(color, tmp_path / "a.png"))
    assert {k: facts[k] for k in ("size", "grey", "low", "high")} == {
        "size": [2, 3],
        "grey": False,
        "low": 5,
        "high": 175,
    }
    assert scan_image(save(color, tmp_path / "b.bmp"))["hash"] == facts["hash"]
    assert scan_image(save(color[::-1].copy(), tmp_path / "c.png"))["hash"] != facts["hash"]
    grey = np.repeat(color[..., :1], 3, axis=-1)
    assert scan_image(save(grey, tmp_path / "d.png"))["grey"]


def test_the_size_in_the_facts_is_that_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert scan_image(save(np.zeros((2, 5), np.uint8), tmp_path / "a.png", exif=exif))["size"] == [5, 2]


@pytest.mark.parametrize(
    ("sizes", "grey", "asked", "shape"),
    [
        ([(28, 28)] * 2, [True, True], None, (28, 28, 1)),
        ([(96, 31)] * 2, [True, False], None, (96, 31, 3)),
        ([(97, 97)] * 2, [True, True], None, (64, 64, 1)),
        ([(28, 28), (28, 29)], [False, False], None, (64, 64, 3)),
        ([(None, None)], [False], None, (64, 64, 3)),
        ([(28, 28)], [True], 11, (11, 11, 1)),
        ([(28, 28)], [True], (11, 13), (11, 13, 1)),
    ],
)
def test_the_shape_follows_from_the_data_unless_it_is_given(sizes, grey, asked, shape):
    facts = [{"size": size, "grey": g} for size, g in zip(sizes, grey * len(sizes), strict=False)]
    assert choose_image_shape(facts, asked) == shape


@pytest.mark.parametrize("asked", [0, -3, 2.5, 10_000])
def test_an_illegal_size_is_refused(asked):
    with pytest.raises(InputError, match="`image_size` must"):
        choose_image_shape([{"size": (5, 5), "grey": True}], asked)


# In front of the model


def test_a_permutation_moves_every_pixel_whole_and_is_a_function_of_its_seed():
    images = tf.reshape(tf.range(2 * 5 * 7 * 3), (2, 5, 7, 3))
    moved = permute_pixels(images, 11).numpy()
    for before, after in zip(images.numpy(), moved, strict=True):
        assert sorted(map(tuple, before.reshape(-1, 3))) == sorted(map(tuple, after.reshape(-1, 3)))
        assert not np.array_equal(before, after)
    np.testing.assert_array_equal(moved[0] + 5 * 7 * 3, moved[1])  # the same for every picture
    np.testing.assert_array_equal(permute_pixels(images[1], 11), moved[1])  # and for one alone
    assert not np.array_equal(permute_pixels(images, 12), moved)


def test_what_stands_before_the_model_is_the_same_for_one_and_for_a_batch_inside_map_too():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 1)).astype(np.uint8)
    preprocess = preprocess_images(permute_seed=2)
    batch = preprocess(images).numpy()
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, np.stack([preprocess(tf.constant(image)) for image in images]))
    inside = tf.data.Dataset.from_tensor_slices(images).map(preprocess)
    assert inside.element_spec.shape == (5, 7, 1)
    np.testing.assert_array_equal(batch, np.stack(list(inside.as_numpy_iterator())))
    np.testing.assert_array_equal(preprocess_images()(images), normalize_pixels(images))
