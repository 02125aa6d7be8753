"""The miniature's dataset: paintings in EmoSet's own layout."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from uniemo.cache import atomic_write, check_new_folder
from uniemo.errors import Natural, Seed, Share, check_ranges
from uniemo.miniature.painter import DIFFICULTY, Painting, Side, paint
from uniemo.miniature.styles import DATASET_STYLES, pick_style
from uniemo.miniature.table import (
    EMOTIONS,
    OBJECTS,
    SCENES,
    additive_accuracy,
    best_accuracy,
    cell_weights,
    emotion_table,
    object_only_accuracy,
    scene_only_accuracy,
)
from uniemo.progress_bars import progress_bar

_LEVELS = [step / 10 for step in range(11)]  # EmoSet's brightness and colorfulness: 0.0, 0.1, …, 1.0
_MOOD_LEVELS: dict[str, tuple[float, float]] = {  # mean brightness and colorfulness: cheerful is brighter
    "amusement": (0.6, 0.65),
    "awe": (0.5, 0.55),
    "contentment": (0.6, 0.5),
    "excitement": (0.55, 0.65),
    "anger": (0.4, 0.55),
    "disgust": (0.4, 0.4),
    "fear": (0.3, 0.35),
    "sadness": (0.4, 0.3),
}
_LEVEL_NOISE = 0.12
_FACES = ("angry", "disgust", "fear", "happy", "sad", "surprise")  # EmoSet's names; no painting shows a face …
_ACTIONS = ("applauding", "dancing", "laughing", "running")  # … or a person: the vocabularies only complete info.json


@dataclass(frozen=True)
class Label:
    """What a painting shows and which emotion it is labelled with; brightness and colorfulness are 0.0, 0.1, …, 1.0."""

    scene: str
    object: str
    emotion: str
    brightness: float
    colorfulness: float


def sample_labels(n: int, rng: np.random.Generator) -> list[Label]:
    """Sample labels from the table with balanced emotions.

    Label ``i`` has emotion ``i % 8``; its (scene, object) comes from P(scene, object | emotion). As all emotions are
    equally likely under the table, this is the joint distribution for which ``table.best_accuracy()`` holds. Brightness
    and colorfulness follow a second emotion, sampled independently from the same (scene, object): they look cheerful or
    gloomy as the cell does, but carry no information on the label beyond that of scene and object.
    """
    table = emotion_table()
    joint = (table * cell_weights()[..., None]).reshape(-1, len(EMOTIONS))  # (S·O, 8)
    given_emotion = joint / joint.sum(axis=0)
    labels = []
    for index in range(n):
        emotion = index % len(EMOTIONS)
        scene, obj = divmod(int(rng.choice(len(joint), p=given_emotion[:, emotion])), len(OBJECTS))
        second = EMOTIONS[int(rng.choice(len(EMOTIONS), p=table[scene, obj]))]
        noisy = np.asarray(_MOOD_LEVELS[second]) + rng.normal(0, _LEVEL_NOISE, size=2)
        brightness, colorfulness = (round(10 * level) / 10 for level in np.clip(noisy, 0, 1).tolist())
        labels.append(Label(SCENES[scene], OBJECTS[obj], EMOTIONS[emotion], brightness, colorfulness))
    return labels


def object_label(name: str) -> str:
    """An object's name as EmoSet spells it: "balloon" becomes "Balloon"."""
    return name.replace("_", " ").capitalize()


def synthesize_emoset(
    root: Path | str,
    train: Natural = 2000,
    val: Natural = 400,
    test: Natural = 4000,
    seed: Seed = 0,
    size: Side = 64,
    missing: Share = 0.1,
    difficulty: Share = DIFFICULTY,
) -> Path:
    """Paint a dataset in EmoSet's layout.

    Beside EmoSet's own files the tree has ``mask/<emotion>/<id>.png`` (grey, 255 where the object is) and
    ``truth.json`` (seed, exact accuracies of the table, and for each image its split, scene and object, spelled as in
    the annotations, even where the annotation lacks them). The tree is written to a temporary folder beside ``root``
    and renamed at the end: it is complete or absent. The same arguments give the same bytes; the splits come from
    independent random streams.

    Args:
        root: folder to create; it may exist if it is empty.
        train: number of training images; each split is balanced over the emotions as far as its size allows.
        val: number of validation images.
        test: number of test images.
        seed: another one, other paintings.
        size: side of the images in pixels.
        missing: share of images whose annotation has no scene and, independently, of those that have no object.
        difficulty: of :func:`~uniemo.miniature.painter.paint`; 0 has one style, else two take turns.

    Returns:
        The absolute path of ``root``.

    Raises:
        UniEmoError: if ``root`` is a file or a folder with anything in it, or an argument is outside its range.
    """
    check_ranges(synthesize_emoset, locals())
    root = Path(root).expanduser().resolve()
    check_new_folder(root, "root")
    with atomic_write(root) as partial:
        _write_tree(partial, {"train": train, "val": val, "test": test}, seed, size, missing, difficulty)
    return root


def paint_label(
    label: Label, rng: np.random.Generator, size: int, difficulty: float, styles: Mapping[str, float]
) -> Painting:
    """Paint what a label says, in one of the styles; at difficulty 0 in the flat one."""
    style = pick_style(styles, rng) if difficulty else "flat"
    return paint(label.scene, label.object, rng, size, label.brightness, label.colorfulness, difficulty, style)


def _write_tree(root: Path, splits: dict[str, int], seed: int, size: int, missing: float, difficulty: float) -> None:
    for kind in ("image", "annotation", "mask"):
        for emotion in EMOTIONS:
            (root / kind / emotion).mkdir(parents=True)
    _write_json(root / "info.json", info())
    numbers = dict.fromkeys(EMOTIONS, 0)  # running number of each emotion's images, over all splits
    truth: dict[str, dict[str, str]] = {}
    with progress_bar(desc="painting", unit="image", total=sum(splits.values())) as bar:
        for split_index, (split, count) in enumerate(splits.items()):
            rng = np.random.default_rng([seed, split_index])
            entries = []
            for label in sample_labels(count, rng):
                image_id = f"{label.emotion}_{numbers[label.emotion]:05d}"
                numbers[label.emotion] += 1
                stem = f"{label.emotion}/{image_id}"
                painting = paint_label(label, rng, size, difficulty, DATASET_STYLES["emoset"])
                painting.image.save(root / f"image/{stem}.jpg", quality=95, subsampling=0)  # 4:4:4 keeps small colours
                Image.fromarray(painting.object_mask.astype(np.uint8) * 255).save(root / f"mask/{stem}.png")
                has_scene, has_object = (rng.random(2) >= missing).tolist()
                _write_json(root / f"annotation/{stem}.json", annotation(label, image_id, has_scene, has_object))
                truth[image_id] = {"split": split, "scene": label.scene, "object": object_label(label.object)}
                entries.append([label.emotion, f"image/{stem}.jpg", f"annotation/{stem}.json"])
                bar.update()
            _write_json(root / f"{split}.json", entries)
    accuracies = {
        "best_accuracy": best_accuracy(),
        "additive_accuracy": additive_accuracy(),
        "scene_only_accuracy": scene_only_accuracy(),
        "object_only_accuracy": object_only_accuracy(),
    }
    arguments = {"seed": seed, "size": size, "missing": missing, "difficulty": difficulty}
    _write_json(root / "truth.json", {**arguments, **accuracies, "images": truth})


def annotation(label: Label, image_id: str, has_scene: bool, has_object: bool) -> dict[str, object]:
    """Return an image's annotation."""
    annotation: dict[str, object] = {
        "image_id": image_id,
        "emotion": label.emotion,
        "brightness": label.brightness,
        "colorfulness": label.colorfulness,
    }
    if has_scene:
        annotation["scene"] = label.scene
    if has_object:
        annotation["object"] = [object_label(label.object)]
    return annotation


def info() -> dict[str, dict[str, dict[str, object]]]:
    """Return EmoSet's index in its full form: emotions in EmoSet's order, attributes in alphabetical order."""
    vocabularies: dict[str, Sequence[object]] = {
        "emotion": EMOTIONS,
        "brightness": _LEVELS,
        "colorfulness": _LEVELS,
        "scene": sorted(SCENES),
        "object": sorted(object_label(name) for name in OBJECTS),
        "facial_expression": _FACES,
        "human_action": _ACTIONS,
    }
    return {
        attribute: {
            "label2idx": {str(name): index for index, name in enumerate(names)},
            "idx2label": {str(index): name for index, name in enumerate(names)},
        }
        for attribute, names in vocabularies.items()
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
