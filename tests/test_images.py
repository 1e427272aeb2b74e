from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from torchvision import transforms

from adem_bench.images import (
    MAX_PNG_PIXELS,
    PIXEL_STATISTICS,
    UnreadableImageError,
    common_form,
    load_square,
    normalized,
    open_rgb,
    shown_size,
)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "1"])
@pytest.mark.parametrize("normalization", ["imagenet", "clip"])
def test_pixels_equal_the_published_pipeline(tmp_path, mode, normalization):
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    suffix = "jpg" if mode == "CMYK" else "png"
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(noise).convert(mode).save(path)
    published = transforms.Compose(
        [
            transforms.Resize((32, 32), interpolation=Image.Resampling.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(*PIXEL_STATISTICS[normalization]),
        ]
    )
    expected = published(Image.open(path).convert("RGB")).numpy()
    found = load_square(path, 32, normalization).pixels
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "bomb.png"
    Image.new("RGB", (64, 64)).save(path)
    with pytest.raises(UnreadableImageError, match="too large"):
        load_square(path, 32, "clip")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer; run `git lfs pull`"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"<?xml version='1.0'?>\n<svg/>", "SVG; convert"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC or AVIF"),
        (b"%PDF-1.4", "PDF; convert"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is EPS"),
        (b"", "it is empty"),
        (b"hello", "cannot identify image file"),
    ],
)
def test_a_file_that_is_no_picture_is_told_with_its_remedy(tmp_path, content, reason):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason):
        open_rgb(path)


def test_a_picture_below_the_limit_is_read_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    path = tmp_path / "large.png"
    Image.new("RGB", (64, 64)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_rgb(path).size == (64, 64)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<svg/>", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_files_that_are_no_images_are_told(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r"broken\.png cannot be read"):
        load_square(path, 32, "clip")


@pytest.mark.parametrize("error", [TypeError("odd field"), NotImplementedError(), KeyError(3)])
def test_whatever_pillow_raises_is_told(tmp_path, monkeypatch, error):
    def fail(path):
        raise error

    monkeypatch.setattr(Image, "open", fail)
    (tmp_path / "odd.tif").touch()
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        load_square(tmp_path / "odd.tif", 32, "clip")


@pytest.mark.parametrize("normalization", ["imagenet", "clip"])
def test_every_grey_level_is_normalized_in_float32(normalization):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    made = normalized(Image.fromarray(np.dstack([grey, 255 - grey, grey.T])), normalization)
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    means, deviations = PIXEL_STATISTICS[normalization]
    for channel, values in enumerate([grey, 255 - grey, grey.T]):
        mean, deviation = np.float32(means[channel]), np.float32(deviations[channel])
        expected = (values.astype(np.float32) / np.float32(255) - mean) / deviation
        assert np.array_equal(made[channel], expected)


def test_an_image_is_decoded_when_it_is_opened(tmp_path):
    path = tmp_path / "image.png"
    Image.new("L", (40, 30), 77).save(path)
    image = open_rgb(path)
    path.unlink()
    assert (image.mode, image.size) == ("RGB", (40, 30))
    assert image.getpixel((39, 29)) == (77, 77, 77)


def test_an_image_cut_short_is_told_when_it_is_opened(tmp_path):
    path = tmp_path / "short.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(
        UnreadableImageError, match=r"short\.jpg cannot be read: image file is trunc"
    ):
        open_rgb(path)


def test_a_missing_image_is_told(tmp_path):
    with pytest.raises(UnreadableImageError, match=r"none\.jpg does not exist"):
        open_rgb(tmp_path / "none.jpg")


# The rule of docs/images.md

RAMP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
PHOTO = Image.fromarray(
    np.random.default_rng(1).integers(0, 256, (6, 10, 3), dtype=np.uint8)
).resize((120, 72), Image.Resampling.BICUBIC)
"""Smooth, so that a JPEG of it is close to it."""


def saved(tmp_path, image, name, **settings):
    path = tmp_path / name
    image.save(path, **settings)
    return path


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def pixels_of(image):
    return np.asarray(image).astype(int)


def plain_png(header, rows, *chunks):
    """A PNG of raw rows: width, height, depth and colour type are its header."""

    def chunk(kind, data):
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0))]
    parts += [chunk(kind, data) for kind, data in chunks]
    parts += [chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_an_image_stands_upright(tmp_path, suffix, orientation):
    settings = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path, PHOTO, f"a.{suffix}", exif=oriented(orientation), **settings)
    with Image.open(path) as stored:
        stored.load()
        upright = ImageOps.exif_transpose(stored).convert("RGB")
    found = open_rgb(path)
    assert found.size == ((72, 120) if orientation > 4 else (120, 72))
    assert np.array_equal(pixels_of(found), pixels_of(upright))
    assert shown_size(path) == found.size
    # Pillow itself sets a TIFF upright, so that the published reading has it so too.
    differs = orientation > 1 and suffix != "tif"
    published = open_rgb(path, reading="published")
    assert (published.size != found.size) == (differs and orientation > 4)
    assert load_square(path, 32, "clip").differs == differs


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_broken_tags_turn_nothing(tmp_path, exif):
    path = saved(tmp_path, PHOTO, "a.jpg", exif=exif)
    assert open_rgb(path).size == shown_size(path) == PHOTO.size
    assert not load_square(path, 32, "clip").differs
    assert common_form(path).is_own


@pytest.mark.parametrize("orientation", [0, 9, 4096])
def test_an_orientation_that_there_is_not_turns_nothing(tmp_path, orientation):
    path = saved(tmp_path, PHOTO, "a.jpg", exif=oriented(orientation))
    assert open_rgb(path).size == PHOTO.size


def test_an_orientation_in_xmp_counts(tmp_path):
    xmp = b"<x:xmpmeta><tiff:Orientation>8</tiff:Orientation></x:xmpmeta>"
    path = saved(tmp_path, PHOTO, "a.jpg", xmp=xmp)
    assert open_rgb(path).size == (72, 120)


def test_a_fraction_of_a_jpeg_is_turned_too(tmp_path):
    path = saved(tmp_path, PHOTO.resize((960, 576)), "a.jpg", exif=oriented(6))
    assert open_rgb(path, at_least=100).size == (144, 240)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (Image.fromarray(RAMP), "grey.png"),
        (Image.fromarray(RAMP), "grey.tif"),
        (Image.fromarray(RAMP.byteswap().view(RAMP.dtype.newbyteorder())), "swapped.tif"),
        (Image.fromarray(RAMP.astype(np.int32)), "whole.tif"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_16_bits_the_upper_8_are_shown(tmp_path, image, name):
    path = saved(tmp_path, image, name)
    assert np.array_equal(pixels_of(open_rgb(path))[..., 1], RAMP >> 8)
    assert pixels_of(open_rgb(path, reading="published")).min(axis=2).mean() > 240  # all but white
    assert load_square(path, 32, "clip").differs


@pytest.mark.parametrize(("most", "shift"), [(65535, 8), (4095, 4)])
def test_grey_values_of_a_pgm_are_scaled_by_its_range(tmp_path, most, shift):
    values = (RAMP >> (8 - shift)).astype(">u2")
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 8 8 %d\n" % most + values.tobytes())
    assert np.abs(pixels_of(open_rgb(path))[..., 0] - (RAMP >> 8)).max() <= 1


def test_16_bits_that_are_all_dark_stay_dark(tmp_path):
    dark = np.full((4, 4), 200, np.uint16)
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 4 4 65535\n" + dark.astype(">u2").tobytes())
    assert pixels_of(open_rgb(path)).max() == 0


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 127.4, 255.0], [0, 127, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 500.0, 1000.0], [0, 128, 255]),
        ([300.0, 300.0, 300.0], [0, 0, 0]),
    ],
)
def test_floats_are_scaled_by_their_range(tmp_path, values, shown):
    path = saved(tmp_path, Image.fromarray(np.array([values], np.float32)), "a.tif")
    assert pixels_of(open_rgb(path))[0, :, 2].tolist() == shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0, 7, 255], [0, 7, 255]),
        ([-255, 0, 255], [0, 128, 255]),
        ([0, 1 << 20, 1 << 21], [0, 128, 255]),
        ([70000, 70000, 70000], [0, 0, 0]),
    ],
)
def test_whole_numbers_are_scaled_by_their_range(tmp_path, values, shown):
    path = saved(tmp_path, Image.fromarray(np.array([values], np.int32)), "a.tif")
    assert pixels_of(open_rgb(path))[0, :, 0].tolist() == shown


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_that_is_not_finite_is_refused(tmp_path, value):
    path = saved(tmp_path, Image.fromarray(np.array([[0, value]], np.float32)), "a.tif")
    with pytest.raises(UnreadableImageError, match="values that are not finite"):
        open_rgb(path)


def _half_clear(mode):
    """An image of a mode, grey, the left half of which cannot be seen."""
    image = Image.new("RGBA", (8, 4), (90, 90, 90, 255))
    image.paste((200, 0, 0, 0), (0, 0, 4, 4))
    if mode == "P":
        image = image.convert("RGB").quantize(4)
        return image, {"transparency": image.getpixel((0, 0))}
    if mode in ("L", "RGB"):
        image = image.convert(mode)
        return image, {"transparency": image.getpixel((0, 0))}
    return image.convert(mode), {}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_what_can_be_seen_through_lies_on_white(tmp_path, mode):
    image, settings = _half_clear(mode)
    path = saved(tmp_path, image, "a.png", **settings)
    found = pixels_of(open_rgb(path))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, 7].tolist() == [90, 90, 90]
    assert pixels_of(open_rgb(path, reading="published"))[0, 0].max() < 210
    assert load_square(path, 4, "clip").differs


def test_what_can_be_half_seen_through_is_mixed_with_white(tmp_path):
    path = saved(tmp_path, Image.new("RGBA", (4, 4), (0, 0, 0, 51)), "a.webp", lossless=True)
    assert pixels_of(open_rgb(path)).flatten().tolist() == [204] * 48


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_image_with_an_alpha_channel_is_read_alike(tmp_path, mode):
    path = saved(tmp_path, PHOTO.convert(mode), "a.png")
    assert not load_square(path, 32, "clip").differs
    published = open_rgb(path, reading="published")
    assert np.array_equal(pixels_of(open_rgb(path)), pixels_of(published))
    assert common_form(path).is_own


def test_a_clear_grey_of_16_bits_lies_on_white(tmp_path):
    path = tmp_path / "a.png"
    rows = [row.astype(">u2").tobytes() for row in RAMP]
    clear = (b"tRNS", struct.pack(">H", int(RAMP[3, 3])))
    path.write_bytes(plain_png((8, 8, 16, 0), rows, clear))
    expected = (RAMP >> 8).astype(int)
    expected[3, 3] = 255
    assert np.array_equal(pixels_of(open_rgb(path))[..., 0], expected)


@pytest.mark.parametrize("has_marker", [True, False])
def test_cmyk_is_read_as_adobe_writes_it(tmp_path, has_marker):
    path = saved(tmp_path, PHOTO.convert("CMYK"), "a.jpg", quality=95)
    raw = path.read_bytes()
    place = raw.index(b"\xff\xee")
    assert raw[place + 4 : place + 9] == b"Adobe"
    if not has_marker:
        path.write_bytes(raw[:place] + raw[place + 16 :])
    expected = pixels_of(PHOTO.convert("CMYK").convert("RGB"))
    assert np.abs(pixels_of(open_rgb(path)) - expected).mean() < 3
    assert not load_square(path, 32, "clip").differs


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colours_become_rgb(tmp_path, mode):
    if mode == "LAB":
        profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
        image = ImageCms.profileToProfile(PHOTO, *profiles, outputMode="LAB")
    else:
        image = PHOTO.convert(mode)
    path = saved(tmp_path, image, "a.tif")
    assert np.abs(pixels_of(open_rgb(path)) - pixels_of(PHOTO)).mean() < 3


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_several_frames_the_first_is_read(tmp_path, suffix):
    first, *others = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    settings = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"a.{suffix}"
    first.save(path, save_all=True, append_images=others, **settings)
    assert open_rgb(path).getpixel((4, 4)) == (255, 0, 0)
    form = common_form(path)
    assert not form.is_own
    with Image.open(io.BytesIO(form.data)) as image:
        assert (image.format, getattr(image, "n_frames", 1)) == ("PNG", 1)
        assert image.getpixel((4, 4)) == (255, 0, 0)


# What other programs are given


def test_ordinary_files_go_to_others_as_they_are(tmp_path):
    noise = PHOTO.quantize(16)
    files = [saved(tmp_path, PHOTO.convert(mode), f"{mode}.jpg") for mode in ("L", "RGB")]
    files += [saved(tmp_path, PHOTO.convert(mode), f"{mode}.png") for mode in ("1", "L", "RGB")]
    files.append(saved(tmp_path, noise, "P.png"))
    files.append(saved(tmp_path, PHOTO, "upright.jpg", exif=oriented(1)))
    for path in files:
        form = common_form(path)
        assert form.is_own, path.name
        assert form.data == path.read_bytes()
        assert form.media_type == ("image/jpeg" if path.suffix == ".jpg" else "image/png")


def _extraordinary(tmp_path):
    yield saved(tmp_path, PHOTO, "turned.jpg", exif=oriented(6))
    yield saved(tmp_path, PHOTO, "turned.png", exif=oriented(3))
    yield saved(tmp_path, Image.fromarray(RAMP), "deep.png")
    yield saved(tmp_path, PHOTO.convert("CMYK"), "cmyk.jpg")
    yield saved(tmp_path, _half_clear("RGBA")[0], "clear.png")
    image, settings = _half_clear("P")
    yield saved(tmp_path, image, "palette.png", **settings)
    yield saved(tmp_path, PHOTO, "a.bmp")
    yield saved(tmp_path, PHOTO, "a.webp")
    deep = tmp_path / "deep-colours.png"
    rows = np.repeat(RAMP[..., None], 3, axis=2).astype(">u2")
    deep.write_bytes(plain_png((8, 8, 16, 2), [row.tobytes() for row in rows]))
    yield deep


def test_what_programs_read_in_many_ways_goes_to_them_as_it_is_shown(tmp_path):
    for path in _extraordinary(tmp_path):
        form = common_form(path)
        assert (form.is_own, form.media_type) == (False, "image/png"), path.name
        with Image.open(io.BytesIO(form.data)) as image:
            assert (image.mode, image.getexif().get(0x0112)) == ("RGB", None)
            assert np.array_equal(pixels_of(image), pixels_of(open_rgb(path))), path.name


def test_a_large_photograph_is_turned_into_a_jpeg(tmp_path):
    large = PHOTO.resize((2500, MAX_PNG_PIXELS // 2500 + 1))
    form = common_form(saved(tmp_path, large, "a.jpg", exif=oriented(8)))
    assert (form.media_type, form.is_own) == ("image/jpeg", False)
    with Image.open(io.BytesIO(form.data)) as image:
        assert image.size == large.size[::-1]
        assert np.abs(pixels_of(image) - pixels_of(large.transpose(2))).mean() < 3
