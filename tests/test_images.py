from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from adem_bench.images import (
    PIXEL_STATISTICS,
    UnreadableImageError,
    load_image,
    normalized,
    open_rgb,
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
    np.testing.assert_allclose(load_image(path, 32, normalization), expected, atol=1e-6, rtol=0)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "bomb.png"
    Image.new("RGB", (64, 64)).save(path)
    with pytest.raises(UnreadableImageError, match="too large"):
        load_image(path, 32, "clip")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<svg/>", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_files_that_are_no_images_are_told(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r"broken\.png cannot be read"):
        load_image(path, 32, "clip")


@pytest.mark.parametrize("error", [TypeError("odd field"), NotImplementedError(), KeyError(3)])
def test_whatever_pillow_raises_is_told(tmp_path, monkeypatch, error):
    def fail(path):
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        load_image(tmp_path / "odd.tif", 32, "clip")


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
