from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from adem_bench.trainers import augmentation
from adem_bench.trainers.augmentation import augment_caption_image, random_augment

# Row 3 of what OpenCV 5.0.0's warpAffine made of `small()` with the published matrices (border
# 128, bilinear), and the columns that no edge blends into.
WARPED = {
    ("shear_x", 1): ([16, 46, 76, 106, 136, 166, 196], [0, 0, 0, 0, 110, 200, 90], slice(1, 8)),
    ("shear_y", 1): ([0, 30, 60, 90, 120, 150, 180, 210], [0, 0, 0, 0, 0, 200, 200, 0], slice(8)),
    ("translate_x", 1): (
        [150, 180, 210, 128, 128, 128, 128, 128],
        [200, 200, 0, 128, 128, 128, 128, 128],
        slice(8),
    ),
    ("translate_y", 1): ([128] * 8, [128] * 8, slice(8)),
    ("rotate", 1): ([12, 41, 70, 99, 128, 157, 186], [0, 0, 0, 0, 50, 141, 73], slice(7)),
}


def small() -> Image.Image:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0] = np.arange(8) * 30
    pixels[..., 1] = np.arange(8)[:, None] * 30
    pixels[2:4, 5:7, 2] = 200
    return Image.fromarray(pixels)


def noise(seed: int = 0) -> Image.Image:
    drawn = np.random.default_rng(seed).integers(40, 180, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(drawn).resize((96, 72), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("name", "sign"), WARPED)
def test_warps_agree_with_opencv_within_a_grey_level(name, sign):
    red, blue, columns = WARPED[name, sign]
    row = np.asarray(getattr(augmentation, name)(small(), sign))[3, columns].astype(int)
    assert np.abs(row[:, 0] - red).max() <= 1
    assert np.abs(row[:, 2] - blue).max() <= 1


@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
def test_signs_go_opposite_ways_and_bare_pixels_are_grey(name):
    image = Image.new("RGB", (64, 64), (255, 0, 0))
    made = [np.asarray(getattr(augmentation, name)(image, sign)) for sign in (1, -1)]
    bare = [(pixels == 128).all(-1) for pixels in made]
    assert not np.array_equal(*bare)
    assert all(0.02 < share.mean() < 0.2 for share in bare)


def test_operations_are_drawn_and_applied_as_often_as_published():
    image, draws, unchanged, warped = noise(), 4000, 0, 0
    for seed in range(draws):
        altered = random_augment(image, np.random.default_rng(seed))
        unchanged += altered.tobytes() == image.tobytes()
        warped += (np.asarray(altered) == 128).all(-1).mean() > 0.01
    # An operation that does nothing is drawn three times of ten; half of the others is applied.
    alters = 0.7 * 0.5
    assert unchanged / draws == pytest.approx((1 - alters) ** 2, abs=0.03)
    warps = 0.5 * 0.5
    assert warped / draws == pytest.approx(1 - (1 - warps) ** 2, abs=0.03)


def test_the_same_seed_gives_the_same_square_and_touches_no_other_generator():
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (augment_caption_image(noise(), 32, seed=5) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.size == (32, 32)
    assert first.tobytes() != augment_caption_image(noise(), 32, seed=6).tobytes()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_at_least_half_of_the_image_is_kept_and_half_are_flipped(monkeypatch):
    monkeypatch.setattr(augmentation, "PROBABILITY", -1.0)  # crop and flip alone
    ramp = np.zeros((60, 80, 3), np.uint8)
    ramp[..., 0] = np.arange(80) * 3
    ramp[..., 1] = np.arange(60)[:, None] * 4
    image = Image.fromarray(ramp)
    flipped, areas = 0, []
    for seed in range(300):
        square = np.asarray(augment_caption_image(image, 64, seed)).astype(float)
        width = (square[32, -3:, 0].mean() - square[32, :3, 0].mean()) / 3
        height = (square[-3:, 32, 1].mean() - square[:3, 32, 1].mean()) / 4
        flipped += width < 0
        areas.append(abs(width) * height / (80 * 60))
    assert flipped / 300 == pytest.approx(0.5, abs=0.1)
    assert 0.42 < min(areas) < 0.6
    assert max(areas) > 0.9
