"""Small image sets."""

from PIL import Image

EIGHT = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")


def paint(root, emotions=("awe", "fear"), count=4, size=16, start=0):
    """Write plain images of different colours in a folder for each emotion; return the root."""
    for label, emotion in enumerate(emotions):
        (root / emotion).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            k = start + 31 * label + 7 * number
            colour = (k * 5 % 256, k * 11 % 256, k * 17 % 256)
            Image.new("RGB", (size, size), colour).save(root / emotion / f"{number}.png")
    return root
