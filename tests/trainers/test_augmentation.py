from __future__ import annotations

import math
import random
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from adem_bench.trainers import augmentation
from adem_bench.trainers.augmentation import augment_caption_image, random_augment

WARPS = ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"]
AUTOCONTRAST, EQUALIZE = augmentation.POOL[1], augmentation.POOL[4]

# What OpenCV 4.10.0's warpAffine makes of `saddle()` with the matrices of ADEM-VL cec09b8
# `util/randaugment.py` at level 5 of 10 (bilinear, border 128): 12 x 12 grey levels in hex.
OPENCV = {
    ("shear_x", 1): """
    807f7e7d7c7b7a79787776757f7f7f7f7f7f7f7f7f7f7f7f7f7f808182838485868788897e7e80828486888a8c8e9092
    7e7d808386898c8f9295989b7f7c8084888c9094989ca0a47f7a7f84898e93989da2a7ac80797f858b91979da3a9afb5
    807a7e858c939aa1a8afb6bd807a7c848c949ca4acb4bcc4807b7b848d969fa8b1bac3cc807c78828c96a0aab4bec8d2
    """,
    ("shear_x", -1): """
    807f7e7d7c7b7a79787776757f7f7f7f7f7f7f7f7f7f7f7f7e7f808182838485868788867e80828486888a8c8e90928b
    7e8184878a8d909396999c8c7e82868a8e92969a9ea2a68a7f84898e93989da2a7acb1857f858b91979da3a9afb5b780
    80878e959ca3aab1b8bfb880828a929aa2aab2bac2cab480848d969fa8b1bac3ccd5ad8086909aa4aeb8c2ccd6e0a280
    """,
    ("shear_y", 1): """
    807f7f7e7e7f7f80808080807f7f7f7e7d7c7a797a7a7b7c7e7f808080807f7f7e7c7b787d7f81828384848585848482
    7c7f82848688898b8c8c8d8c7b7f8386898c8e91939496967a7f84888c9093979a9c9fa0797f858a8f94989da1a4a8aa
    787f868c92989da3a8acb1b4777f878e959ca2a9afb4babe767f889098a0a7afb6bcc3c8757f89929ba4acb5bdc4ccd2
    """,
    ("shear_y", -1): """
    807f7e7e7e7e7f7f808284867f7f7f8081828485878a8d907e7f80828486898b8e92969a7d7f8184878a8e91959a9fa4
    7c7f82868a8e93979ca2a8ae7b7f83888d92989da3aab1b87a7f848a90969da3aab2bac2797f858c939aa2a9b1bac3cc
    787f868e969ea7afb8c2ccd6777f879099a2acb5bfcad5e0767f88929ca6b1b7b8b4ada2757f868b8c8a858080808080
    """,
    ("translate_x", 1): """
    7b7a797877767580808080807f7f7f7f7f7f7f808080808083848586878889808080808087898b8d8f91938080808080
    8b8e9194979a9d80808080808f93979b9fa3a7808080808093989da2a7acb18080808080979da3a9afb5bb8080808080
    9ba2a9b0b7bec580808080809fa7afb7bfc7cf8080808080a3acb5bec7d0d98080808080a7b1bbc5cfd9e38080808080
    """,
    ("translate_x", -1): """
    8080808080807f7e7d7c7b7a80808080807f7f7f7f7f7f7f80808080807e7f808182838480808080807d7f8183858789
    80808080807c7f8285888b8e80808080807b7f83878b8f9380808080807a7f84898e93988080808080797f858b91979d
    8080808080787f868d949ba28080808080777f878f979fa78080808080767f88919aa3ac8080808080757f89939da7b1
    """,
    ("translate_y", 1): """
    7b7f83878b8f93979b9fa3a77a7f84898e93989da2a7acb1797f858b91979da3a9afb5bb787f868d949ba2a9b0b7bec5
    777f878f979fa7afb7bfc7cf767f88919aa3acb5bec7d0d9757f89939da7b1bbc5cfd9e3808080808080808080808080
    808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080
    """,
    ("translate_y", -1): """
    808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080
    808080808080808080808080807f7e7d7c7b7a79787776757f7f7f7f7f7f7f7f7f7f7f7f7e7f80818283848586878889
    7d7f81838587898b8d8f91937c7f8285888b8e9194979a9d7b7f83878b8f93979b9fa3a77a7f84898e93989da2a7acb1
    """,
    ("rotate", 1): """
    80807f7e7c7a7a7b7d7f81807f7e7d7d7d7e8082858889807f7f7f80828386898c9094837f80818385888b8f93989d8d
    7f808285888c90949a9fa59c7e8083878b8f949aa0a6adb07c8083888d92989ea5adb5bd7b7f83898e959ba3aab2bbc4
    7c7d83898f979ea6afb8c1cc7d7b82889098a0a9b3bdc7d27f7880889099a2acb6c1cdc980787e869099a4aaa49a8980
    """,
    ("rotate", -1): """
    807f7f7f7f7e7c7b7c7d7f80807e7f808080807f7d7b78787f7d7f81828383838382807e7e7d80838587888989888886
    7c7d8285888b8d8e8f9090907a7e83888c8f9295979899997a80868b9094989b9ea0a2a47b82898f949a9ea3a6a9acaa
    7d858c939aa0a5aaafb3b6a47f8890989fa6adb2b8bdc19a8189949da5adb5bbc1c7cd898080838d9cb0bdc4ccd2c980
    """,
}

# Pixels (17, 0), (17, 8), (17, 16).. of `wide()` after the tables of the same file, by channel.
TABLES = {
    AUTOCONTRAST: [
        [17, 43, 69, 95, 121, 146, 172, 198],
        [255, 243, 231, 220, 208, 197, 184, 173],
        [53, 26, 13, 13, 26, 53, 93, 147],
    ],
    EQUALIZE: [
        [4, 24, 55, 87, 119, 151, 183, 215],
        [255, 222, 187, 162, 138, 119, 101, 87],
        [140, 80, 41, 41, 80, 140, 189, 223],
    ],
}


def saddle() -> Image.Image:
    x, y = np.meshgrid(np.arange(12), np.arange(12))
    grey = 100 + 6 * x + 3 * y + (x - 4) * (y - 7)
    return Image.fromarray(np.dstack([grey] * 3).astype(np.uint8))


def wide() -> Image.Image:
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    blue = 60 + (x - 20) ** 2 // 16 + (y - 30) ** 2 // 24
    channels = [20 + (3 * x + y) // 2, 200 - x * y // 16, blue]
    return Image.fromarray(np.dstack(channels).astype(np.uint8))


def noise() -> Image.Image:
    drawn = np.random.default_rng(0).integers(40, 180, (18, 24, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


class Scripted:
    """A generator whose draws are given."""

    def __init__(self, chosen: list[int], uniforms: list[float]) -> None:
        self.chosen = chosen
        self.uniforms = iter(uniforms)

    def choice(self, among: int, count: int) -> list[int]:
        assert (among, count) == (10, 2)
        return self.chosen

    def random(self) -> float:
        return next(self.uniforms)


@pytest.mark.parametrize(("name", "sign"), OPENCV)
def test_warps_agree_with_opencv_within_a_grey_level_edges_included(name, sign):
    expected = np.frombuffer(bytes.fromhex(OPENCV[name, sign]), np.uint8).reshape(12, 12, 1)
    made = np.asarray(getattr(augmentation, name)(saddle(), sign))
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_every_channel_is_warped_alike():
    for name in WARPS:
        made = np.asarray(getattr(augmentation, name)(wide(), 1))
        for channel in range(3):
            alone = Image.fromarray(np.asarray(wide())[..., [channel] * 3])
            expected = np.asarray(getattr(augmentation, name)(alone, 1))[..., 0]
            assert np.array_equal(made[..., channel], expected)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", WARPS)
def test_warps_move_a_dot_by_the_published_amounts(name, sign):
    # The dot is right of the centre (50.5, 50.5) and below it.
    x, y = 80, 60
    turn = math.radians(15 * sign)
    right, below = x - 50.5, y - 50.5
    expected = {
        "shear_x": (x + 0.15 * sign * y, y),
        "shear_y": (x, y + 0.15 * sign * x),
        "translate_x": (x - 5 * sign, y),
        "translate_y": (x, y - 5 * sign),
        "rotate": (
            50.5 + math.cos(turn) * right + math.sin(turn) * below,
            50.5 - math.sin(turn) * right + math.cos(turn) * below,
        ),
    }
    pixels = np.full((101, 101, 3), 128, np.uint8)
    pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
    made = np.asarray(getattr(augmentation, name)(Image.fromarray(pixels), sign))[..., 0]
    rows, columns = np.nonzero(made > 128)
    weights = made[rows, columns] - 128.0
    found = np.average(columns, weights=weights), np.average(rows, weights=weights)
    assert found == pytest.approx(expected[name], abs=0.03)


@pytest.mark.parametrize("table", TABLES, ids=["autocontrast", "equalize"])
def test_tables_equal_the_published_ones(table):
    assert np.asarray(table(wide(), 1.0))[17, ::8].T.tolist() == TABLES[table]


@pytest.mark.parametrize("table", TABLES, ids=["autocontrast", "equalize"])
def test_tables_leave_an_image_of_one_colour_alone(table):
    image = Image.new("RGB", (32, 32), (7, 99, 201))
    assert table(image, 1.0).tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("place", "uniform", "name", "sign"),
    [
        (5, 0.51, "shear_x", -1),
        (5, 0.49, "shear_x", 1),
        (6, 0.51, "shear_y", -1),
        (7, 0.51, "translate_x", -1),
        (8, 0.51, "translate_y", -1),
        (9, 0.51, "rotate", 1),
        (9, 0.49, "rotate", -1),
    ],
)
def test_an_operation_is_applied_up_to_a_half_with_the_published_sign(place, uniform, name, sign):
    image = noise()
    made = random_augment(image, Scripted([place, 4], [0.5, uniform, 0.51]))
    assert made.tobytes() == getattr(augmentation, name)(image, sign).tobytes()


def test_operations_follow_each_other_in_the_order_drawn():
    image = noise()
    made = random_augment(image, Scripted([7, 4], [0.1, 0.1, 0.1, 0.1]))
    assert made.tobytes() == EQUALIZE(augmentation.translate_x(image, 1.0), 1.0).tobytes()


def test_operations_are_drawn_applied_and_signed_as_often_as_published(monkeypatch):
    applied: list[tuple[int, float]] = []

    def mark(place, image, sign):
        applied.append((place, sign))
        return image

    monkeypatch.setattr(augmentation, "POOL", tuple(partial(mark, place) for place in range(10)))
    image, images = noise(), 8000
    each, signs, numbers, twice = Counter(), Counter(), Counter(), 0
    for seed in range(images):
        applied.clear()
        random_augment(image, np.random.default_rng(seed))
        each.update(place for place, _ in applied)
        signs.update(sign for _, sign in applied)
        numbers[len(applied)] += 1
        twice += len(applied) == 2 and applied[0][0] == applied[1][0]
    assert [each[place] / images for place in range(10)] == pytest.approx([0.1] * 10, abs=0.012)
    assert signs[1.0] / signs.total() == pytest.approx(0.5, abs=0.02)
    assert numbers[0] / images == pytest.approx(0.25, abs=0.02)
    assert numbers[2] / images == pytest.approx(0.25, abs=0.02)
    assert twice / images == pytest.approx(0.025, abs=0.006)


def test_three_of_the_ten_operations_do_nothing():
    image = noise()
    idle = [operation(image, 1.0).tobytes() == image.tobytes() for operation in augmentation.POOL]
    assert [place for place, same in enumerate(idle) if same] == [0, 2, 3]


def test_images_are_left_alone_as_often_as_published():
    image, images = noise(), 4000
    unchanged = sum(
        random_augment(image, np.random.default_rng(seed)).tobytes() == image.tobytes()
        for seed in range(images)
    )
    # Seven of ten operations alter, and half of what is drawn is applied.
    assert unchanged / images == pytest.approx((1 - 0.7 * 0.5) ** 2, abs=0.025)


def test_the_seed_alone_decides():
    first = augment_caption_image(wide(), 32, seed=5)
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    assert first.size == (32, 32)
    assert first.mode == "RGB"
    assert first.tobytes() == augment_caption_image(wide(), 32, seed=5).tobytes()
    made = {augment_caption_image(wide(), 32, seed).tobytes() for seed in range(20)}
    assert len(made) == 20


def test_no_generator_of_the_process_or_of_a_gpu_is_touched(monkeypatch):
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    augment_caption_image(wide(), 32, seed=5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert seeded == []


def test_crop_and_flip_equal_the_published_transforms(monkeypatch):
    monkeypatch.setattr(augmentation, "POOL", (lambda image, sign: image,))  # crop, flip alone
    published = transforms.Compose(
        [
            transforms.RandomResizedCrop(
                32, scale=(0.5, 1.0), interpolation=transforms.InterpolationMode.BICUBIC
            ),
            transforms.RandomHorizontalFlip(),
        ]
    )
    for seed in range(20):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = published(wide())
        assert augment_caption_image(wide(), 32, seed).tobytes() == expected.tobytes()


def test_crops_keep_half_to_all_at_the_published_ratios_and_half_are_flipped(monkeypatch):
    monkeypatch.setattr(augmentation, "POOL", (lambda image, sign: image,))  # crop, flip alone
    x, y = np.meshgrid(np.arange(256), np.arange(192))
    image = Image.fromarray(np.dstack([x, y, y]).astype(np.uint8))
    inner = np.arange(4, 60)  # where the bicubic filter meets no edge
    flips, areas, ratios = 0, [], []
    for seed in range(400):
        square = np.asarray(augment_caption_image(image, 64, seed)).astype(float)
        width = 64 * np.polyfit(inner, square[32, inner, 0], 1)[0]
        height = 64 * np.polyfit(inner, square[inner, 32, 1], 1)[0]
        flips += width < 0
        areas.append(abs(width) * height / (256 * 192))
        ratios.append(abs(width) / height)
    assert flips / 400 == pytest.approx(0.5, abs=0.06)
    # Sides are whole pixels, and slopes are read from whole grey levels.
    assert min(areas) == pytest.approx(0.5, abs=0.02)
    assert 0.95 < max(areas) < 1.01
    assert min(ratios) == pytest.approx(3 / 4, abs=0.02)
    assert max(ratios) == pytest.approx(4 / 3, abs=0.02)
