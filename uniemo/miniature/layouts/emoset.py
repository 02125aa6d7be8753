"""EmoSet as people have it: JSON annotations, or an export of Hugging Face datasets."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from PIL import Image

from uniemo.data.listing import SPLITS
from uniemo.miniature.dataset import _annotation, _info

from .shots import Shot, Studio

_MISSING = 0.1  # share of images without a scene, and without an object
_ODD = 0.1  # share of annotations with an oddity, for each of them
_ACTIONS = ("boxing ", "petting animal (not cat)")  # EmoSet's own spellings, the blank included


def write_emoset(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write 3-tuples and the full info.json, and the painted objects' masks as the miniature has them."""
    _write(studio, shots, ids=False, old_info=False, masks=True)


def write_tuples_of_four(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write 4-tuples, as the README has them, and the full info.json."""
    _write(studio, shots, ids=True, old_info=False, masks=False)


def write_old_info(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write 3-tuples and the flat info.json that knows emotions only."""
    _write(studio, shots, ids=False, old_info=True, masks=False)


def _write(studio: Studio, shots: Sequence[Shot], ids: bool, old_info: bool, masks: bool) -> None:
    """Write a tree of JSON files."""
    studio.write("info.json", _json(info(old_info)))
    lists: dict[str, list[list[str]]] = {split: [] for split in SPLITS}
    for shot in shots:
        emotion = shot.label.emotion
        painting = studio.save(shot, f"image/{emotion}")
        note = f"annotation/{emotion}/{shot.stem}.json"
        if shot.fault != "missing_annotation":
            studio.write(note, _json(annotation(shot, studio.rng(shot.number))))
        if masks:
            path = studio.root / f"mask/{emotion}/{shot.stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(painting.object_mask.astype(np.uint8) * 255).save(path)
        lists[shot.split].append([shot.name, *([shot.stem] if ids else []), shot.file, note])
    for split, entries in lists.items():
        studio.write(f"{split}.json", _json(entries))


def annotation(shot: Shot, rng: np.random.Generator) -> dict[str, object]:
    """Return a shot's attributes with the oddities of the real ones: any but the emotion may lack, blanks may trail."""
    has_scene, has_object = (rng.random(2) >= _MISSING).tolist()
    result = _annotation(shot.label, shot.stem, has_scene, has_object)
    result["emotion"] = shot.name
    no_levels, blank, action, face = (rng.random(4) < _ODD).tolist()
    if no_levels:
        del result["brightness"], result["colorfulness"]
    if blank and has_scene:
        result["scene"] = f"{shot.label.scene} "
    if action:
        result["human_action"] = _ACTIONS[int(rng.integers(len(_ACTIONS)))]
    if face:
        result["facial_expression"] = "happy"
    return result


def info(old: bool) -> dict[str, object]:
    """Return info.json, full or in its old flat form."""
    tables = _info()
    if old:
        return dict(tables["emotion"])
    extra = {"scene": ("bakery/shop",), "object": ("Alarm clock",), "human_action": _ACTIONS}
    for kind, names in extra.items():
        known = sorted({*(str(name) for name in tables[kind]["label2idx"]), *names})
        tables[kind]["label2idx"] = {name: index for index, name in enumerate(known)}
        tables[kind]["idx2label"] = {str(index): name for index, name in enumerate(known)}
    return dict(tables)


def _json(value: object) -> str:
    """Return JSON, names in any script as they are."""
    return json.dumps(value, ensure_ascii=False)
