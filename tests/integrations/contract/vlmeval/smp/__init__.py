from pathlib import Path

from PIL import Image


def githash(digits):
    return "0123456789abcdef"[:digits]


def concat_images_vlmeval(images):
    opened = [Image.open(image) for image in images]
    joined = Image.new("RGB", (sum(one.width for one in opened), opened[0].height))
    left = 0
    for one in opened:
        joined.paste(one, (left, 0))
        left += one.width
    path = Path(images[0]).with_name("joined.jpg")
    joined.save(path)
    return str(path)


def dump(table, path):
    table.to_excel(path, index=False)


def load(path):
    import pandas as pd

    return pd.read_excel(path, keep_default_na=False)
