"""The report of ``uniemo data check``: kinds of findings, the JSON file, the summary on screen."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import __version__ as pillow_version

from uniemo import __version__
from uniemo.cache import write_text
from uniemo.data.manifest import SPLITS

FORMAT = 1  # of the JSON file; a change that readers would notice counts up
ALL = "all"  # stands where a tree gives no split

Level = Literal["stops", "spoils", "note"]
_HEADINGS: dict[Level, str] = {
    "stops": "would stop training",
    "spoils": "would spoil training or its metrics",
    "note": "worth knowing, harmless",
}
_SHOWN = 3  # files of each finding on screen


@dataclass(frozen=True)
class Kind:
    """A kind of finding: how bad it is, what it is called and what to do about it."""

    level: Level
    title: str
    advice: str


_RESTORE = "restore them, take them off the list, or train with --data.on_error skip"

# Worst first; this is the order of reports.
KINDS: dict[str, Kind] = {
    "zero_byte": Kind("stops", "empty files", _RESTORE),
    "truncated": Kind("stops", "truncated images", _RESTORE),
    "unreadable": Kind("stops", "unreadable images", _RESTORE),
    "missing_image": Kind("stops", "listed images that are not there", _RESTORE),
    "missing_annotation": Kind("stops", "missing annotations", "restore them; {} without attributes will do"),
    "bad_annotation": Kind("stops", "unreadable annotations", "restore them; {} without attributes will do"),
    "bad_mask": Kind("stops", "unreadable masks", "restore them, or remove them: an image may lack its mask"),
    "unknown_label": Kind("stops", "labels outside the label space", "correct them, or say --data.on_error skip"),
    "leak": Kind(
        "spoils", "same picture on two sides of a split", "keep one; of identical files training leaves out its own"
    ),
    "placeholder": Kind("spoils", "placeholder pictures", "remove them: what a host answers for a photo that is gone"),
    "contradiction": Kind("spoils", "same picture under different emotions", "keep the right one"),
    "other_label": Kind("spoils", "annotation and list differ in the emotion", "correct one; training takes the list"),
    "missing_mask": Kind("spoils", "missing masks", "restore them; attention is measured without these images"),
    "mask_shape": Kind("spoils", "masks of another shape than their image", "export them again in the image's shape"),
    "duplicate": Kind("note", "same picture twice", "remove copies; a split made here keeps them on one side"),
    "empty_class": Kind("note", "emotions without an image in a split", "accuracy per emotion will have gaps"),
    "counts": Kind("note", "counts that differ from the published ones", "copies differ; state yours with results"),
    "label_case": Kind("note", "labels in another letter case", "nothing: names are compared in lower case"),
    "unknown_attribute": Kind("note", "attribute names outside info.json", "nothing: they count as absent"),
    "unlisted": Kind("note", "images that no list names", "nothing: they are not used"),
    "cmyk": Kind("note", "CMYK images", "nothing: read as RGB"),
    "grey": Kind("note", "grey images", "nothing: read as RGB"),
    "sixteen_bit": Kind("note", "images of 16 bits and more", "nothing: read as 8 bits"),
    "palette": Kind("note", "palette images", "nothing: read as RGB"),
    "transparent": Kind("note", "transparent images", "nothing: laid over white"),
    "animated": Kind("note", "animated images", "nothing: the first frame is taken"),
    "exif": Kind("note", "images that EXIF turns", "nothing: they are turned upright"),
    "other_suffix": Kind("note", "suffixes of another format", "nothing: the content decides"),
    "upper_extension": Kind("note", "upper-case suffixes", "nothing: read as any other"),
    "script_name": Kind("note", "names beyond ASCII", "nothing here; archives and other systems may garble them"),
    "remark": Kind("note", "remarks of the layout's reader", "see each"),
}


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        kind: a key of :data:`KINDS`.
        files: images (or lists) that it concerns, relative to the root; one where it is about a single file.
        detail: what exactly, in a few words.
        facts: further plain values for the JSON report.
    """

    kind: str
    files: tuple[str, ...]
    detail: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"files": list(self.files), "detail": self.detail, **self.facts}


@dataclass(frozen=True)
class Report:
    """What ``uniemo data check`` found in a tree; the same tree gives the same report.

    Attributes:
        root: folder that the files' names are relative to.
        dataset: class of the data module.
        layout: recognised or forced.
        emotions: label space.
        splits: where splits come from: "tree", "split file", "folds" or "none".
        counts: images by split (:data:`ALL` where there is none; Twitter I: the agreement) and emotion.
        folds: test images of each given fold, by agreement.
        published: images as in ``counts``, :data:`ALL` for totals, as far as they are known.
        images: number of labelled images.
        bytes: sizes of all images, summed.
        formats: images by file format.
        sizes: smallest and largest width and height.
        findings: sorted worst first, then by file.
    """

    root: Path
    dataset: str
    layout: str
    emotions: tuple[str, ...]
    splits: str
    counts: Mapping[str, Mapping[str, int]]
    folds: Mapping[str, tuple[int, ...]]
    published: Mapping[str, Mapping[str, int]]
    images: int
    bytes: int
    formats: Mapping[str, int]
    sizes: Mapping[str, int]
    findings: tuple[Finding, ...]

    def kinds(self) -> dict[str, list[Finding]]:
        """Return the findings by kind, worst first."""
        found: dict[str, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.kind, []).append(finding)
        return {kind: found[kind] for kind in KINDS if kind in found}

    @property
    def serious(self) -> tuple[str, ...]:
        """Kinds found that would stop or spoil training."""
        return tuple(kind for kind in self.kinds() if KINDS[kind].level != "note")

    @property
    def exit_code(self) -> int:
        """1 when something would stop or spoil training, else 0."""
        return int(bool(self.serious))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, every finding with its files."""
        names = ("dataset", "layout", "emotions", "splits", "images", "bytes", "counts", "folds", "published")
        return {
            "report": "uniemo data check",
            "format": FORMAT,
            "versions": {"uniemo": __version__, "pillow": pillow_version, "python": platform.python_version()},
            "root": str(self.root),
            **{name: getattr(self, name) for name in (*names, "formats", "sizes")},
            "clean": not self.serious,
            "serious": list(self.serious),
            "findings": {
                kind: {**asdict(KINDS[kind]), "count": len(found), "found": [finding.to_dict() for finding in found]}
                for kind, found in self.kinds().items()
            },
        }

    def write(self, path: Path) -> None:
        """Write the JSON report; complete or not at all."""
        write_text(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    def summary(self) -> str:
        """Return the tables for the screen."""
        size = self.bytes / 1e9
        amount = f"{size:.1f} GB" if size >= 1 else f"{1000 * size:.1f} MB"
        lines = [
            f"{self.dataset}, layout {self.layout}, in {self.root}",
            f"{self.images:,} images, {amount}; {self._where_splits_come_from()}",
            "",
            *self._counts_table(),
        ]
        level: Level | None = None
        for kind, found in self.kinds().items():
            about = KINDS[kind]
            if about.level != level:
                level = about.level
                lines += ["", _HEADINGS[level]]
            lines.append(f"{len(found):>8,}  {about.title}: {about.advice}")
            lines += [f"{'':10}{_line(finding)}" for finding in found[:_SHOWN]]
            if len(found) > _SHOWN:
                lines.append(f"{'':10}and {len(found) - _SHOWN:,} more")
        return "\n".join([*lines, "", self._verdict()])

    def _where_splits_come_from(self) -> str:
        """Say in a few words which splits the counts are of."""
        words = {
            "tree": "splits as the tree gives them",
            "split file": "splits of the split file",
            "folds": f"{max(map(len, self.folds.values()), default=0)} folds given",
            "none": "no split given: a seeded one is made and saved beside the run",
        }
        return words[self.splits]

    def _counts_table(self) -> list[str]:
        """Return rows of images by emotion and columns by split, published ones in brackets."""
        columns = [*self.counts, *([ALL] if len(self.counts) > 1 and set(self.counts) <= {*SPLITS, ALL} else [])]
        cells = {}
        for column in columns:
            for name in (*self.emotions, ALL):
                number = number_of(self.counts, column, name)
                known = self.published.get(column, {}).get(name)
                cells[name, column] = f"{number:,}" + ("" if known is None else f" ({known:,})")
        corner = "emotion (published)" if self.published else "emotion"
        return table((*self.emotions, ALL), columns, cells, corner)

    def _verdict(self) -> str:
        """Return the last line: clean, or what has to be mended."""
        if not self.findings:
            return "clean: nothing found"
        if not self.serious:
            return "clean: nothing that would stop or spoil training"
        parts = []
        for level, verb in (("stops", "would stop"), ("spoils", "would spoil")):
            titles = [KINDS[kind].title for kind in self.serious if KINDS[kind].level == level]
            if titles:
                parts.append(f"{', '.join(titles)} {verb} training")
        return f"not clean: {'; '.join(parts)}"


def number_of(counts: Mapping[str, Mapping[str, int]], split: str, emotion: str) -> int | None:
    """Return a number of images, :data:`ALL` standing for a sum; None where there is no such split."""
    if split not in counts and split != ALL:
        return None
    parts = list(counts.values()) if split == ALL else [counts[split]]
    return sum(number for part in parts for name, number in part.items() if emotion in (name, ALL))


def table(
    rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], str], corner: str = ""
) -> list[str]:
    """Lay out cells by row and column, names to the left, cells to the right."""
    first = max(len(name) for name in (*rows, corner))
    widths = {column: max(len(column), *(len(cells[row, column]) for row in rows)) for column in columns}
    lines = [f"{corner:<{first}}" + "".join(f"  {column:>{widths[column]}}" for column in columns)]
    lines += [f"{row:<{first}}" + "".join(f"  {cells[row, c]:>{widths[c]}}" for c in columns) for row in rows]
    return lines


def _line(finding: Finding) -> str:
    """Return one finding for the screen."""
    more = len(finding.files) - _SHOWN
    shown = ", ".join(finding.files[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
    return ": ".join(part for part in (shown, finding.detail) if part)


def sort_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings worst first, then by files and words, so that no order of work shows."""
    rank = {kind: position for position, kind in enumerate(KINDS)}
    return tuple(sorted(findings, key=lambda finding: (rank[finding.kind], finding.files, finding.detail)))
