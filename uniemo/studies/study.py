"""A study: one table or figure, written as a YAML file in ``configs/studies``.

    title: "Table IV: visual emotion generation on EmoSet"
    claim: UniEmo's images are closer to the wanted emotion, more diverse and closer to real ones than every other's.
    seeds: 3                       # seeds 0, 1, 2 unless --seeds says otherwise
    use: common.yaml               # parameters and cells of that file, as if they stood here
    figures:                       # columns: what is read from a cell's test.json
      FID: {key: FID, best: low}             # "test/FID[network]"
      Emo-A: {key: Emo-A, percent: true}     # 100 times what test.json says; best: high, digits: 2 are the defaults
      FI: {key: accuracy, percent: true, with: {dataset: fi}}     # a column may set parameters of its own
    rows:
      - group: Visual instruction tuning                          # a heading between rows
      - {label: LLaVA, note: ViT-L/14, paper: {FI: 56.04}}        # without a cell: the paper's alone
      - {label: CoOp, note: ViT-B/32, paper: {FI: 60.52}, cell: baseline, with: {method: coop}, only: [FI]}
      - {label: UniEmo, note: ViT-B/16, cell: stage1, with: {clip: vit_b16}, not_run: {miniature: it has one CLIP}}
      - {label: Real images, cell: stage2, reference: real}       # no method: "test/real/Emo-A[network]"
    checks:                        # the claim, as comparisons; rows are named by label and note
      - {claim: UniEmo above CoOp, better: UniEmo ViT-B/16, than: [CoOp ViT-B/32], in: [FI]}
    plot: {kind: points, figure: Accuracy, x: label, lines: note, xlabel: queries}     # figures drawn from numbers
    picture: fig5                  # or figures drawn from images, by uniemo.studies.pictures
    parameters:                    # what {clip} in a cell's words stands for, by choice and scale
      clip:
        vit_b32: {paper: --config paper/vit_b32.yaml}             # nothing at miniature scale
        vit_b16: {paper: --config paper/vit_b16.yaml}
    cells:                         # what is trained, generated, tested: steps are uniemo commands
      stage1:
        defaults: {clip: vit_b32}  # its parameters; a row's and a column's "with" win
        steps:
          - run: fit
            miniature: --config understanding.yaml                # first the scale's words,
            paper: --config paper/understanding.yaml --data.root {data}/EmoSet
            words: "{clip}"                                       # then these, at every scale,
            quick: --trainer.max_epochs 1                         # then, with --quick, these
          - run: test
            words: --ckpt {here}/fit/best.ckpt
      stage2:
        steps:
          - {run: fit, miniature: --config joint.yaml, words: "--model.init_from {cell:stage1}/fit/best.ckpt"}

In words, ``{here}`` is the cell's own folder, ``{cell:name}`` the folder of another cell, which is run before and gets
the same parameters (those that it knows), ``{data}`` the folder that ``--data`` names (paper scale), ``{seed}`` the
seed, any other ``{name}`` a parameter: one of its choices, or else the value itself. ``{}`` alone is left alone. Each
step writes into a folder of the cell named after its command (``fit``, ``test``, ``generate``, ``filter``,
``synthesize``) or after ``into:``; options for that folder and the seed are added by the runner
(:data:`uniemo.studies.cells.ADDED`). A cell with ``seed: 0`` is the same for every seed. Figures are read from
``test/test.json``.

A study with ``picture:`` may have no figures; its rows have one cell each. It is drawn when its cells of seed 0 are
there, by ``uniemo.studies.pictures.draw(study, folders, output)`` with the folders of finished cells by row name (label
and note) and the path of the PNG to write.

Cells with equal commands, configurations, seed and parents are one cell, whatever study or row asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Scale = Literal["miniature", "paper"]
SCALES: tuple[Scale, ...] = ("miniature", "paper")


@dataclass(frozen=True)
class Column:
    """A figure of a table.

    Attributes:
        name: heading.
        key: name in test.json without ``test/`` and without the network in brackets.
        best: whether ``high`` or ``low`` is better.
        percent: measured as a share, shown in per cent, as the paper's number is.
        digits: behind the point.
        parameters: of the cells of this column.
    """

    name: str
    key: str
    best: Literal["high", "low"] = "high"
    percent: bool = False
    digits: int = 2
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A method or a setting.

    Attributes:
        label: its name.
        note: second column, the paper's backbone for example.
        group: heading that it stands under.
        paper: the paper's numbers by column.
        cell: name of the cell that measures it; None for a row of the paper's alone.
        parameters: of the cell.
        not_run: reason for not measuring it, by scale.
        only: columns that are measured; empty for all.
        reference: where the row is no method but what methods are held against, the prefix of its figures' names in
            test.json: ``real`` for those of real test images. It is never the best of a column.
    """

    label: str
    note: str = ""
    group: str = ""
    paper: dict[str, float] = field(default_factory=dict)
    cell: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    reference: str = ""

    @property
    def name(self) -> str:
        """Label and note, unique in a study."""
        return f"{self.label} {self.note}".strip()

    def runs(self, column: Column, scale: Scale) -> bool:
        """Whether the figure is measured at this scale."""
        return self.cell is not None and scale not in self.not_run and (not self.only or column.name in self.only)


@dataclass(frozen=True)
class Check:
    """A comparison that a claim makes: ``better`` is better than each of ``than`` in each column of ``columns``."""

    claim: str
    better: str
    than: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One command of a cell: its name, the folder it writes into, its words by when they count."""

    run: str
    into: str
    words: dict[str, str]


@dataclass(frozen=True)
class Recipe:
    """How a cell is made; ``seed`` is that of all seeds, None for each its own."""

    name: str
    steps: tuple[Step, ...]
    defaults: dict[str, str] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True)
class Study:
    """A table or figure; the module's docstring says what its parts mean."""

    name: str
    title: str
    claim: str
    seeds: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    recipes: dict[str, Recipe]
    parameters: dict[str, dict[str, dict[str, str]]]
    plot: dict[str, str] = field(default_factory=dict)
    picture: str = ""
    remarks: str = ""

    def column(self, name: str) -> Column:
        """Return a column by its name."""
        return next(column for column in self.columns if column.name == name)

    def row(self, name: str) -> Row:
        """Return a row by label and note."""
        return next(row for row in self.rows if row.name == name)
