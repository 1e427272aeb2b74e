from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from adem_bench.images import PIXEL_STATISTICS, UnreadableImageError, load_image


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
