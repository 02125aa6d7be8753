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
_ALL, _REPORT = "all", "report.html"


def run(args: list[str]) -> int:
    """Report; ``args`` begin with the command."""
    parser = Parser("uniemo report", _DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "target", metavar="RUN_OR_STUDY", help="folder of a run or of runs; a study such as table4; all"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="HTML file (report.html in the run's folder)")
    parser.add_argument("--work", type=Path, default=Path("runs/studies"), help="of uniemo reproduce (runs/studies)")
    parser.add_argument("--scale", choices=("miniature", "paper"), default="miniature", help="of a study (miniature)")
    parser.add_argument("--data", type=Path, help="of a study at paper scale: the folder that it was run with")
    parser.add_argument("--quick", action="store_true", help="a study's results of uniemo reproduce --quick")
    options = parser.parse_args(args[1:])
    folder = Path(options.target).expanduser()
    if options.output is not None:
        _check_output(options.output)
    elif folder.is_dir():
        check_new_file(folder / _REPORT, "--output")
    output, text = _run_report(folder) if folder.is_dir() else _study_report(options)

    from uniemo.cache import write_text

    write_text(options.output or output, text)
    print(f"wrote {options.output or output}")
    return 0


def _check_output(path: Path) -> None:
    """Raise where another file than an earlier report would be overwritten."""
    from uniemo.report.page import MARK

    check_new_file(path, "--output")
    if path.exists() and MARK.encode() not in path.read_bytes()[:1000]:
        raise UniEmoError(f"--output must be a new file or an earlier report; {path} is neither: choose another name")


def _run_report(folder: Path) -> tuple[Path, str]:
    """Return where the report of a run folder goes, and its text."""
    from uniemo.report.page import render
    from uniemo.report.run_page import read_runs

    page = read_runs(folder)
    return folder / _REPORT, render("runs.html", title=page.title, page=page)


def _study_report(options: argparse.Namespace) -> tuple[Path, str]:
    """Return where the report of a study goes, and its text."""
    from uniemo.report.page import render
    from uniemo.report.study_page import read_study_pages
    from uniemo.studies.cells import Setting
    from uniemo.studies.claims import RULE
    from uniemo.studies.study_files import known_studies, read_study
    from uniemo.studies.work import WorkFolder

    known, every = known_studies(), options.target == _ALL
    if not every and options.target not in known and not Path(options.target).is_file():
        raise UniEmoError(
            f"RUN_OR_STUDY must be a folder, one of {', '.join(known)}, or all; got {options.target!r}"
            f"{near(options.target, known)}"
        )
    if options.scale == "paper" and options.data is None:
        raise UniEmoError("--data must name the folder that the study was run with at --scale paper; got none: add it")
    setting, work = Setting(options.scale, options.quick, options.data), WorkFolder(options.work)
    studies = [read_study(name) for name in (known if every else [options.target])]
    output = work.output(setting) / f"{_ALL if every else studies[0].name}.html"
    if options.output is None:
        check_new_file(output, "--output")
    extent = ", a first look with few steps and images" if options.quick else ""
    text = render(
        "studies.html",
        title="Every table and figure" if every else studies[0].title,
        pages=read_study_pages(studies, setting, work, with_runs=not every),
        setting=f"{options.scale} scale{extent}".capitalize(),
        results=str(work.results_file),
        rule=RULE.replace("*", ""),
    )
    return output, text
