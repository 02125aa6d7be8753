"""The miniature's emotion table: P(emotion | scene, object), known exactly.

Eight scenes fall into four moods and sixteen objects into eight roles; the emotion follows from (mood, role), with one
natural exception. Neither the scene nor the object determines the emotion alone, and adding up their evidence does not
either: flowers are a comfort on the beach where an eagle is awesome, and awesome on a battlefield where a rainbow is a
comfort. Such crossings, two roles that swap their emotions between two moods, are what no sum of the two can express.

========  ==================  ===========  =========  ===========  ==========
role      objects             festive      serene     hostile      gloomy
========  ==================  ===========  =========  ===========  ==========
party     balloon, cake       amusement    amusement  sadness (1)  fear
death     skull, coffin       fear         sadness    anger        amusement
grand     rainbow, eagle      contentment  awe        contentment  sadness
tender    flower, butterfly   contentment  contentm.  awe          sadness
weapon    sword, tank         excitement   fear       anger        awe
stirring  flame, drum         excitement   awe        anger        fear
spark     firework, rocket    excitement   amusement  anger        disgust
vermin    worm, spider        disgust      disgust    disgust      excitement
========  ==================  ===========  =========  ===========  ==========

(1) in the sewer, a balloon or a cake is disgust.

Crossings: party and death (amusement, fear: a fair and Halloween), grand and tender (awe, contentment), weapon and
stirring (fear, awe: a beacon and a sword in the stone), spark and vermin (excitement, disgust).

``python -m uniemo.miniature.table`` prints the table and its exact accuracies.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from uniemo.errors import UniEmoError
from uniemo.taxonomy import MIKELS_8

EMOTIONS = MIKELS_8

MOODS: dict[str, tuple[str, ...]] = {
    "festive": ("amusement_park", "stadium"),
    "serene": ("mountain", "beach"),
    "hostile": ("battlefield", "sewer"),
    "gloomy": ("forest", "graveyard"),
}
"""Mood group → its scenes."""

ROLES: dict[str, tuple[str, ...]] = {
    "party": ("balloon", "cake"),
    "death": ("skull", "coffin"),
    "grand": ("rainbow", "eagle"),
    "tender": ("flower", "butterfly"),
    "weapon": ("sword", "tank"),
    "stirring": ("flame", "drum"),
    "spark": ("firework", "rocket"),
    "vermin": ("worm", "spider"),
}
"""Role → its objects."""

SCENES: tuple[str, ...] = tuple(scene for scenes in MOODS.values() for scene in scenes)
OBJECTS: tuple[str, ...] = tuple(name for names in ROLES.values() for name in names)

_BY_ROLE: dict[str, tuple[str, str, str, str]] = {  # the dominant emotion in each mood, in the order of MOODS
    "party": ("amusement", "amusement", "sadness", "fear"),
    "death": ("fear", "sadness", "anger", "amusement"),
    "grand": ("contentment", "awe", "contentment", "sadness"),
    "tender": ("contentment", "contentment", "awe", "sadness"),
    "weapon": ("excitement", "fear", "anger", "awe"),
    "stirring": ("excitement", "awe", "anger", "fear"),
    "spark": ("excitement", "amusement", "anger", "disgust"),
    "vermin": ("disgust", "disgust", "disgust", "excitement"),
}

_EXCEPTIONS: dict[tuple[str, str], str] = {("sewer", "balloon"): "disgust", ("sewer", "cake"): "disgust"}

_DOMINANT, _NEAR, _FAR = 0.92, 0.05, 0.03  # share of a cell's own emotion and of the two emotions most like it

_NEIGHBOURS: dict[str, tuple[str, str]] = {  # most alike first
    "amusement": ("excitement", "contentment"),
    "awe": ("contentment", "excitement"),
    "contentment": ("amusement", "awe"),
    "excitement": ("amusement", "awe"),
    "anger": ("fear", "disgust"),
    "disgust": ("anger", "fear"),
    "fear": ("anger", "sadness"),
    "sadness": ("fear", "anger"),
}


def dominant_emotion(scene: str, obj: str) -> str:
    """The most likely emotion of one (scene, object) cell.

    Raises:
        UniEmoError: if a name is not one of ``SCENES`` or ``OBJECTS``.
    """
    if scene not in SCENES:
        raise UniEmoError(f"scene must be one of {', '.join(SCENES)}; got {scene!r}")
    if obj not in OBJECTS:
        raise UniEmoError(f"object must be one of {', '.join(OBJECTS)}; got {obj!r}")
    if (scene, obj) in _EXCEPTIONS:
        return _EXCEPTIONS[scene, obj]
    mood = next(i for i, scenes in enumerate(MOODS.values()) if scene in scenes)
    role = next(role for role, names in ROLES.items() if obj in names)
    return _BY_ROLE[role][mood]


def emotion_table() -> NDArray[np.float64]:
    """P(emotion | scene, object).

    Returns:
        (S, O, 8) probabilities in the order of ``SCENES``, ``OBJECTS`` and ``EMOTIONS``; the last axis sums to 1.
    """
    table = np.zeros((len(SCENES), len(OBJECTS), len(EMOTIONS)))
    for i, scene in enumerate(SCENES):
        for j, obj in enumerate(OBJECTS):
            own = dominant_emotion(scene, obj)
            near, far = _NEIGHBOURS[own]
            for emotion, share in ((own, _DOMINANT), (near, _NEAR), (far, _FAR)):
                table[i, j, EMOTIONS.index(emotion)] = share
    return table


def cell_weights() -> NDArray[np.float64]:
    """P(scene, object): the distribution nearest to uniform under which all eight emotions are equally likely.

    Returns:
        (S, O) positive weights that sum to 1; ``einsum("so,soe->e", weights, table)`` is 1/8 everywhere.
    """
    table = emotion_table()
    rows = table.reshape(-1, len(EMOTIONS))  # (S·O, 8)
    uniform = np.full(len(rows), 1 / len(rows))
    missing = 1 / len(EMOTIONS) - rows.T @ uniform  # (8,)
    weights = uniform + rows @ np.linalg.solve(rows.T @ rows, missing)  # smallest change that balances the emotions
    return weights.reshape(table.shape[:2])


def best_accuracy() -> float:
    """Expected accuracy of the best classifier of scene and object together.

    This is the exact limit for the tree that ``synthesize_emoset`` writes: its classes are balanced, and so are the
    cells' weights, so both describe one joint distribution P(scene, object, emotion).
    """
    return float(_joint().max(axis=2).sum())


def scene_only_accuracy() -> float:
    """Expected accuracy of the best classifier of the scene alone."""
    return float(_joint().sum(axis=1).max(axis=1).sum())


def object_only_accuracy() -> float:
    """Expected accuracy of the best classifier of the object alone."""
    return float(_joint().sum(axis=0).max(axis=1).sum())


def additive_accuracy() -> float:
    """Expected accuracy of multinomial logistic regression on the two one-hots, scene and object.

    Fitted to the exact distribution of the cells, so it is what such a classifier reaches with unlimited data.
    """
    joint = _joint()  # (S, O, E)
    scenes, objects, emotions = joint.shape
    ridge = 1e-6  # only fixes the freedom of a constant between the two tables

    def split(flat: NDArray[np.float64]) -> NDArray[np.float64]:
        scene_part = flat[: scenes * emotions].reshape(scenes, 1, emotions)
        object_part = flat[scenes * emotions :].reshape(1, objects, emotions)
        logits = scene_part + object_part
        return logits - logits.max(axis=2, keepdims=True)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = split(flat)
        log_probs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
        error = np.exp(log_probs) * joint.sum(axis=2, keepdims=True) - joint  # (S, O, E), gradient by the logits
        gradient = np.concatenate([error.sum(axis=1).ravel(), error.sum(axis=0).ravel()]) + ridge * flat
        return float(-(joint * log_probs).sum() + 0.5 * ridge * flat @ flat), gradient

    start = np.zeros((scenes + objects) * emotions)
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000})
    choice = split(fit.x).argmax(axis=2)  # (S, O)
    return float(np.take_along_axis(joint, choice[..., None], axis=2).sum())


def table_report() -> str:
    """The dominant emotion of every cell and the exact accuracies, as text of at most 120 columns."""
    width = max(len(name) for name in OBJECTS) + 1
    column = max(len(name) for name in EMOTIONS) + 1
    titles = [scene.replace("_", " ").rpartition(" ")[::2] for scene in SCENES]  # a long name takes two lines
    lines = [" " * width + "".join(f" {title[part]:<{column}}" for title in titles) for part in (0, 1)]
    for obj in OBJECTS:
        lines.append(f"{obj:<{width}}" + "".join(f" {dominant_emotion(scene, obj):<{column}}" for scene in SCENES))
    weights = cell_weights()
    prior = np.einsum("so,soe->e", weights, emotion_table())
    best, additive = best_accuracy(), additive_accuracy()
    lines += [
        "",
        f"emotion prior   {prior.min():.4f} to {prior.max():.4f}",
        f"cell weights    {weights.min() * weights.size:.2f} to {weights.max() * weights.size:.2f} times uniform",
        f"best            {best:.4f}   scene and object together",
        f"additive        {additive:.4f}   logistic regression on both one-hots ({additive - best:+.4f})",
        f"object alone    {object_only_accuracy():.4f}",
        f"scene alone     {scene_only_accuracy():.4f}",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _joint() -> NDArray[np.float64]:
    """P(scene, object, emotion), (S, O, 8)."""
    return emotion_table() * cell_weights()[..., None]


if __name__ == "__main__":
    print(table_report())
