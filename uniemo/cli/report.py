"""``uniemo report``: one HTML file about a run or a study."""

from __future__ import annotations

import argparse
from pathlib import Path

from uniemo.cli.parsing import Parser, check_new_file, near
from uniemo.errors import UniEmoError

_DESCRIPTION = """Write one HTML file about a run, a folder of runs, or a study.

Tables, curves, confusion matrices, image grids, attention maps and settings, as far as they are there. Pictures are
inside the file: it opens anywhere, without a network and without scripts, on a phone and on paper too. A study's report
shows its table or figure as uniemo reproduce has measured it so far, what came of the paper's claims, the cells, and
(not for all) the runs of the first seed."""

_EXAMPLES = """examples:
  uniemo report runs/joint                              (writes runs/joint/report.html)
  uniemo report runs/demo --output demo.html            (a folder of runs, one after the other)
  uniemo report table4                                  (writes table4.html beside its table)
  uniemo report all --quick --output studies.html       (every study, as measured with --quick)
"""
_ALL = "all"


def run(words: list[str]) -> int:
    """Report; ``words`` begin with the command."""
    parser = Parser("uniemo report", _DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "target", metavar="RUN_OR_STUDY", help="folder of a run or of runs; a study such as table4; all"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="HTML file (report.html in the run's folder)")
    parser.add_argument("--work", type=Path, default=Path("runs/studies"), help="of uniemo reproduce (runs/studies)")
    parser.add_argument("--scale", choices=("miniature", "paper"), default="miniature", help="of a study (miniature)")
    parser.add_argument("--data", type=Path, help="of a study at paper scale: the folder that it was run with")
    parser.add_argument("--quick", action="store_true", help="a study's results of uniemo reproduce --quick")
    options = parser.parse_words(words[1:])
    folder = Path(options.target).expanduser()
    if options.output is not None:
        _check_output(options.output)
    output, text = _run_report(folder, options.output) if folder.is_dir() else _study_report(options)

    from uniemo.cache import atomic_write

    with atomic_write(output) as path:
        path.write_text(text, encoding="utf-8")
    print(f"wrote {output}")
    return 0


def _check_output(path: Path) -> None:
    """Raise where writing would destroy something else than an earlier report."""
    from uniemo.report.page import MARK

    check_new_file(path, "--output")
    if not path.exists():
        return
    with path.open("rb") as file:
        start = file.read(1000)
    if MARK.encode() not in start:
        raise UniEmoError(f"--output must be a new file or an earlier report; {path} is neither: choose another name")


def _run_report(folder: Path, output: Path | None) -> tuple[Path, str]:
    """Return where the report of a run folder goes, and its text."""
    from uniemo.report.page import render
    from uniemo.report.runs import read_runs

    page = read_runs(folder)
    return output or folder / "report.html", render("runs.html", title=page.title, page=page)


def _study_report(options: argparse.Namespace) -> tuple[Path, str]:
    """Return where the report of a study goes, and its text."""
    from uniemo.report.page import render
    from uniemo.report.studies import read_study_page
    from uniemo.studies.cells import Setting
    from uniemo.studies.checks import RULE
    from uniemo.studies.reading import known_studies, read_study
    from uniemo.studies.work import WorkFolder

    known = known_studies()
    if options.target not in (*known, _ALL) and not Path(options.target).is_file():
        raise UniEmoError(
            f"RUN_OR_STUDY must be a folder, one of {', '.join(known)}, or all; got {options.target!r}"
            f"{near(options.target, known)}"
        )
    if options.scale == "paper" and options.data is None:
        raise UniEmoError("--data must name the folder that the study was run with at --scale paper; got none: add it")
    setting = Setting(options.scale, options.quick, options.data)
    names = known if options.target == _ALL else [options.target]
    work = WorkFolder(options.work)
    studies = [read_study_page(read_study(name), setting, work, with_runs=options.target != _ALL) for name in names]
    title = "Every table and figure" if options.target == _ALL else studies[0].title
    extent = ", a first look with few steps and images" if options.quick else ""
    text = render(
        "studies.html",
        title=title,
        studies=studies,
        setting=f"{options.scale} scale{extent}".capitalize(),
        results=str(work.ledger.path),
        rule=RULE.replace("*", ""),
    )
    name = _ALL if options.target == _ALL else studies[0].name
    return options.output or work.output(setting) / f"{name}.html", text
