"""Images of one's own: a folder for each class, or a table with the columns that the user names.

::

    <class>/*.jpg                                    or {train,val,test}/<class>/*.jpg, val optional
    labels.csv (.tsv, .jsonl)  images anywhere       columns named by label_column or vote_columns, image_column …
    *.parquet, or a folder that save_to_disk wrote   the same, images inside or as paths
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from uniemo.data.affect import read_affect
from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import has_parquet, is_image, is_saved_dataset, subfolders, visible
from uniemo.data.lists import SPLIT_WORDS, ImageList, Labels, column_key, label_key, read_cells, read_text
from uniemo.data.manifest import Layout, Split
from uniemo.data.rows import Rows
from uniemo.data.votes import vote_numbers
from uniemo.errors import Rating, UniEmoError
from uniemo.text_files import parse_lines
from uniemo.vocabulary import check_scale

_LINES = (".jsonl", ".ndjson")
_TABLES = (".csv", ".tsv", *_LINES)
_AFFECT = ("valence_column", "arousal_column")
_COLUMNS = ("image_column", "label_column", "scene_column", "object_column", "split_column", *_AFFECT)
Row = dict[str, Any]


def _is_export(root: Path) -> bool:
    return has_parquet(root) or is_saved_dataset(root)


def _tables(root: Path) -> list[str]:
    return [name for name in visible(root) if Path(name).suffix.lower() in _TABLES]


def _matches(root: Path) -> bool:
    return len(subfolders(root)) > 1 or _is_export(root) or bool(_tables(root))


def _read(
    root: Path,
    follow_links: bool = False,
    table: str | None = None,
    vote_columns: tuple[str, ...] = (),
    affect_scale: tuple[Rating, Rating] | None = None,
    **columns: str,
) -> Rows:
    """Read the tree; ``columns`` are those of ``_COLUMNS`` that were named."""
    if vote_columns and (columns.get("label_column") or (table is None and not _tables(root))):
        raise UniEmoError(
            f"data.vote_columns must name columns of a CSV, TSV or JSON Lines table, in place of data.label_column; "
            f"{root} has {', '.join(_tables(root)) or 'none'}, label_column is {columns.get('label_column', 'null')}: "
            "leave one of the two out, or write the votes as such a table"
        )
    if vote_columns:
        return _checked(_read_table(root, _table(root, table), columns, vote_columns, affect_scale), root)
    if table is None and _is_export(root):
        from uniemo.data.huggingface import Columns, read_export

        names = {name.removesuffix("_column"): (value,) for name, value in columns.items()}
        own = Columns(**names, scale=affect_scale, numbers="label_column" in columns)
        return _checked(read_export(root, follow_links, None, own), root)
    if table is not None or "label_column" in columns:
        return _checked(_read_table(root, _table(root, table), columns, (), affect_scale), root)
    return _checked(_read_classes(root), root)


def _checked(rows: Rows, root: Path) -> Rows:
    """Return the rows of a tree whose labels can be classes."""
    images = len(rows.columns.get("emotion", ())) + len(rows.problems)
    if len(rows.emotions) < 2:
        raise UniEmoError(
            f"a classifier needs at least two classes; {root} has {', '.join(rows.emotions) or 'none'}: make a folder "
            "for each class, or name the column of a table with --data.label_column"
        )
    if images > 20 and len(rows.emotions) > images / 2:
        raise UniEmoError(
            f"labels must be classes; {root} has {len(rows.emotions):,} different ones for {images:,} images, first "
            f"{rows.emotions[0]!r}: name another column with --data.label_column"
        )
    return rows


# Class folders.


def _read_classes(root: Path) -> Rows:
    names = subfolders(root)
    splits = {name: SPLIT_WORDS[name.lower()] for name in names if name.lower() in SPLIT_WORDS}
    split_folders = "train" in splits.values() and len(splits) > 1
    places: dict[str, Split | None] = {**splits} if split_folders else {"": None}
    classes = sorted({label_key(name) for place in places for name in subfolders(root / place)})
    images = ImageList(root, Labels(tuple(classes)))
    for place, split in places.items():
        images.add_folders(place, split)
    images.notes += [f"no split: folder {name}" for name in names if split_folders and name not in splits]
    used = {emotion for emotion, _ in images.images.values()}
    images.notes += [f"no class: folder {name}, which holds no pictures" for name in classes if name not in used]
    images.labels = Labels(tuple(name for name in classes if name in used))
    return images.rows()


# Tables.


def _table(root: Path, name: str | None) -> Path:
    """Return the table that is meant."""
    found = _tables(root) if name is None else [name]
    path = root / found[0] if found else root
    if len(found) != 1 or not path.is_file():
        there = ", ".join(_tables(root)) or "none"
        raise UniEmoError(
            f"data.table must name a table ({', '.join(_TABLES)}) in {root}; got {name or 'null'}, there are {there}: "
            "add --data.table"
        )
    return path


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield line number and cells by column."""
    if path.suffix.lower() not in _LINES:
        cells = read_cells(path)
        head = cells[0][1] if cells else []
        yield from ((number, dict(zip(head, row, strict=False))) for number, row in cells[1:])
        return
    for number, row in parse_lines(read_text(path)):
        if isinstance(row, ValueError):
            raise UniEmoError(f"a line must be a JSON object; line {number} of {path} is not ({row}): mend it") from row
        yield number, row


def _column(wanted: str, name: str, rows: list[tuple[int, Row]], path: Path) -> str:
    """Return the table's own spelling of the column that the argument ``name`` names."""
    there = list(rows[0][1])
    found = wanted if wanted in there else {column_key(one): one for one in there}.get(column_key(wanted))
    if found is None:
        raise UniEmoError(f"data.{name} must be one of {', '.join(map(repr, there))}, as {path} has; got {wanted!r}")
    return found


def _image_column(rows: list[tuple[int, Row]], path: Path) -> str:
    """Return the column most of whose first cells are names of images."""
    head = rows[:200]
    for name in rows[0][1]:
        if sum(is_image(Path(str(row.get(name))).name) for _, row in head) > len(head) / 2:
            return name
    raise UniEmoError(
        f"a table must have a column of image files; no column of {path} ({', '.join(rows[0][1])}) holds names such as "
        "1.jpg: name one with --data.image_column"
    )


def _read_table(
    root: Path,
    path: Path,
    named: dict[str, str],
    voted: tuple[str, ...],
    scale: tuple[float, float] | None,
) -> Rows:
    rows = list(_rows(path))
    if not rows:
        raise UniEmoError(f"data.table must list at least one image; {path} lists none: correct --data.table")
    columns = {name: _column(wanted, name, rows, path) for name, wanted in named.items()}
    votes = {label_key(name): _column(name, "vote_columns", rows, path) for name in sorted(voted, key=label_key)}
    image, label = columns.get("image_column") or _image_column(rows, path), columns.get("label_column", "")
    if not label and not votes:
        raise UniEmoError(f"data.label_column must name one of {', '.join(rows[0][1])}, as {path} has; got null")
    classes = list(votes) or sorted({key for _, row in rows if (key := label_key(_text(row.get(label))))})
    images = ImageList(root, Labels(tuple(classes)))
    images.scale, bases = scale, ["", *subfolders(root)]
    attributes: dict[str, tuple[str | None, list[str]]] = {}
    for number, row in rows:
        where = f"line {number} of {path}"
        split = _split(row.get(columns["split_column"]), where) if "split_column" in columns else None
        text, shares = _most_voted(row, votes, where) if votes else (_text(row.get(label)), [])
        found = images.add(_text(row.get(image)), text, bases, split, where)
        if found is not None:
            images.distributions[found] = shares
            scene = _text(row.get(columns["scene_column"])) if "scene_column" in columns else ""
            objects = _texts(row.get(columns["object_column"])) if "object_column" in columns else []
            attributes[found] = scene or None, objects
            if scale is not None:
                images.affect[found] = read_affect([row.get(columns[name]) for name in _AFFECT], scale, where)
    return images.rows(attributes=attributes)


def _most_voted(row: Row, columns: dict[str, str], where: str) -> tuple[str, list[float]]:
    """Return the class with most votes, the first of a tie, and the share of each."""
    votes = vote_numbers([row.get(column) for column in columns.values()], where)
    total = sum(votes)
    if total == 0:
        return "no votes", []
    return list(columns)[votes.index(max(votes))], [vote / total for vote in votes]


def _text(value: Any) -> str:  # noqa: ANN401 - of a cell
    return "" if value is None else str(value).strip()


def _texts(value: Any) -> list[str]:  # noqa: ANN401 - of a cell
    """Return several names: a list, or text with ``;`` or ``|`` between them."""
    parts = value if isinstance(value, list) else _text(value).replace("|", ";").split(";")
    return [text for part in parts if (text := _text(part))]


def _split(value: Any, where: str) -> Split:  # noqa: ANN401 - of a cell
    word = _text(value).lower()
    if word not in SPLIT_WORDS:
        raise UniEmoError(
            f"data.split_column must hold {', '.join(SPLIT_WORDS)}; {where} has {json.dumps(value)}: correct it, or "
            "leave the column out for a split by seed"
        )
    return SPLIT_WORDS[word]


class Folder(EmotionDataModule):
    """Images of one's own with any classes; arguments as in :class:`EmotionDataModule`, and some of its own.

    The names of the classes, in lower case and sorted, are the emotions of the model. Without splits of its own the
    tree is cut 80 : 5 : 15, stratified by class.

    Args:
        root: folder of the images: a folder for each class, a table, parquet files, or a saved Hugging Face dataset.
        table: CSV, TSV or JSON Lines file in ``root``; null takes the only one where ``label_column`` is set, and
            else class folders.
        image_column: of file names, relative to ``root``; null takes the one that holds names of images.
        label_column: of class names.
        vote_columns: in its place, a column of votes or probabilities for each class, called so; the class with most
            is the label, ``target`` distribution takes all.
        scene_column: of the name of the scene, which then trains the scene query.
        object_column: of names of objects: a list, or text with ``;`` between them.
        split_column: of train, val or test; null cuts by seed.
        valence_column: of how pleasant an image is; empty, as in the next one, for an image that was not rated.
        arousal_column: of how exciting it is.
        affect_scale: least and greatest value of the two, as [1, 9].
        options: the further arguments of :class:`EmotionDataModule`.
    """

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout(
            "folder",
            "Folder",
            "<class>/*.jpg, {train,val,test}/<class>/*.jpg, or a table and --data.label_column",
            _matches,
            _read,
            ("follow_links", "table", "vote_columns", "affect_scale", *_COLUMNS),
            any_classes=True,
        ),
    )

    # The command line reads the options off EmotionDataModule's signature.
    def __init__(
        self,
        root: str,
        table: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        vote_columns: list[str] | None = None,
        scene_column: str | None = None,
        object_column: str | None = None,
        split_column: str | None = None,
        valence_column: str | None = None,
        arousal_column: str | None = None,
        affect_scale: tuple[Rating, Rating] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(root, **options)
        affect = {"valence_column": valence_column, "arousal_column": arousal_column, "affect_scale": affect_scale}
        given = [f"data.{name}" for name, value in affect.items() if value is not None]
        if given and (len(given) < len(affect) or not (label_column or vote_columns)):
            raise UniEmoError(
                "data.valence_column, data.arousal_column and data.affect_scale must be given together, beside "
                f"data.label_column or vote_columns; got {' and '.join(given)} alone: add the others"
            )
        if affect_scale is not None:
            check_scale(affect_scale)
        self.layout_options = {
            "table": table,
            "image_column": image_column,
            "label_column": label_column,
            "vote_columns": None if vote_columns is None else tuple(vote_columns),
            "scene_column": scene_column,
            "object_column": object_column,
            "split_column": split_column,
            **affect,
        }
