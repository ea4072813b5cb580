"""`condsim reproduce`: run a published table, and give one verdict per cell."""

from __future__ import annotations

import pydoc
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from condsim.harness.backbone import reads_images
from condsim.harness.commands.bench import run_here
from condsim.harness.commands.outcomes import Outcomes
from condsim.harness.commands.runs import RunState
from condsim.harness.commands.train import train_and_run
from condsim.harness.configs import plain
from condsim.harness.errors import ROWS_SHOWN, CondsimError, counted, did_you_mean
from condsim.harness.results.formats import print_tables
from condsim.harness.results.output import write_text
from condsim.harness.results.published import find_published, read_published
from condsim.harness.results.reproduction import (
    Compared,
    compared,
    comparison_table,
    correlation_table,
    curve_table,
    measured_cells,
    published_cells,
    read_scores,
    to_csv,
)
from condsim.harness.results.results import Results
from condsim.harness.run.record import Measurement
from condsim.harness.settings.composition import Job, jobs
from condsim.harness.settings.config_files import choices_of, description
from condsim.harness.targets import search_current_folder
from condsim.harness.terminal.console import console, warn
from condsim.harness.terminal.parser import Parser

if TYPE_CHECKING:
    from condsim.datasets.check import Report

GROUP = "reproduce"
Measured = Mapping[tuple[str, str], Mapping[tuple[str, str, str], Measurement]]
"""Row -> what its run measured, see :func:`measured_cells`."""
EXAMPLES = """\
examples:
  condsim reproduce --list
  condsim reproduce genecis/table-2 benchmark.templates=genecis benchmark.visual_genome=VG benchmark.coco=val2017
  condsim reproduce genecis/table-2 --check ...             say what is missing, and run nothing
  condsim reproduce genecis/table-2 --row combiner_cc3m "method=combiner method.checkpoint=head.safetensors" ...

Settings are those of `condsim bench`; they hold for every run of the table and replace its own.
"""


@dataclass(frozen=True)
class Row:
    """One row of a published table as runs of ours."""

    method: str
    backbone: str
    settings: tuple[str, ...] = ()
    not_run: str = ""
    """Why condsim does not run it."""
    x: str = ""
    """Where the row is on the axis of a figure."""

    @property
    def name(self) -> tuple[str, str]:
        return f"{self.method} {self.x}".strip(), self.backbone


@dataclass(frozen=True)
class Lack:
    """What a benchmark lacks."""

    benchmark: str
    faults: tuple[str, ...]

    def text(self, most: int = 1) -> str:
        """With the first ``most`` faults, one line each."""
        shown = list(self.faults[:most])
        if more := len(self.faults) - len(shown):
            shown.append(f"and {more:,} more; `condsim {'reproduce ... --check' if most == 1 else 'check'}` shows them")
        return f"{self.benchmark} is incomplete: " + "\n  ".join(shown)


@dataclass(frozen=True)
class Experiment:
    """A file of conf/reproduce."""

    name: str
    title: str
    paper: str
    tables: tuple[str, ...]
    benchmarks: tuple[str, ...]
    rows: tuple[Row, ...]
    needs: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tolerance: float = 0.1
    settings: tuple[str, ...] = ()
    """Of every run."""
    against: str = ""
    """A file in results/reference with one number per backbone, to correlate the headline with."""
    headline: tuple[str, str] = ("average", "recall@1")
    """(task, metric) of the headline mean that a figure shows."""
    axis: str = ""
    """What the rows of a figure differ in; its numbers are not published."""
    command: str = "bench"
    """"train": each row is trained first, as `condsim train` does."""


def main(argv: Sequence[str]) -> int:
    parser = Parser("condsim reproduce", __doc__, epilog=EXAMPLES)
    parser.add_argument("name", nargs="?", metavar="TABLE", help="such as genecis/table-2")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="settings of `condsim bench`")
    parser.add_argument("--list", action="store_true", help="all tables, with what each needs")
    parser.add_argument("--check", action="store_true", help="say what is there and what is missing, and run nothing")
    parser.add_argument(
        "--row", nargs=2, action="append", default=[], metavar=("METHOD", "SETTINGS"),
        help="run this row of the table with these settings, in place of its own",
    )  # fmt: skip
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help="search your own choices in FOLDER first")
    parser.add_argument("--output", type=Path, metavar="FILE.csv", help="also write the comparison as CSV")
    options, rest = parser.parse_known_intermixed_args(argv)
    folders = () if options.config_dir is None else (str(options.config_dir.expanduser().resolve()),)
    if options.list or options.name is None:
        return _list(folders)
    experiment = with_rows(read_experiment(options.name, folders), options.row)
    flags = [word for folder in folders for word in ("--config-dir", folder)]
    planned = list(_planned(experiment, [*options.settings, *rest], flags))
    absent, partial = _looked_for(planned)
    for lack in dict.fromkeys(absent.values()):
        rows = dict.fromkeys(method for (method, _), other in absent.items() if other == lack)
        console.print(f"missing for {', '.join(rows)}: {lack.text(ROWS_SHOWN if options.check else 1)}")
    warn(*partial)
    if options.check:
        needs = "; ".join(f"{what}: {how}" for what, how in experiment.needs.items())
        ready = sum(job is not None and row.name not in absent for row, job in planned)
        console.print(f"{ready} of {len(planned)} rows can be run. All of them need {needs}")
        return 0 if ready else 1
    results, measured, missing = _run(experiment, planned, absent)
    return _show(experiment, results, measured, missing, options.output)


def read_experiment(name: str, folders: Sequence[str] = ()) -> Experiment:
    """The experiment of this name. Raises CondsimError with the nearest names, and for a file that is none."""
    known = choices_of(GROUP, folders)
    if name not in known:
        raise CondsimError(f"there is no published table {name!r}. {did_you_mean(name, known)}")
    try:
        content: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(known[name]))  # type: ignore[assignment]
        rows = [
            Row(**row | {"settings": tuple(row.get("settings", ())), "x": str(row.get("x", ""))})
            for row in content.pop("rows")
        ]
        lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
        title = description(known[name]).partition("\n")[0]
        return Experiment(name, title, rows=tuple(rows), **content | lists)
    except (OSError, YAMLError, OmegaConfBaseException, AttributeError, KeyError, TypeError) as error:
        raise CondsimError(f"{known[name]} does not describe a published table: {error}") from None


def with_rows(experiment: Experiment, given: Sequence[tuple[str, str]]) -> Experiment:
    """The experiment with the user's settings for some rows, by the name of the method."""
    settings = dict(given)
    methods = {row.method for row in experiment.rows}
    for name in settings:
        if name not in methods:
            raise CondsimError(f"--row {name}: {experiment.name} has no such method. {did_you_mean(name, methods)}")
    rows = tuple(
        replace(row, settings=tuple(shlex.split(settings[row.method])), not_run="") if row.method in settings else row
        for row in experiment.rows
    )
    return replace(experiment, rows=rows)


def _list(folders: Sequence[str]) -> int:
    for name in choices_of(GROUP, folders):
        experiment = read_experiment(name, folders)
        console.print(f"{name}  {experiment.title}")
        for what, how in experiment.needs.items():
            console.print(f"    {what}: {how}", style="dim")
    return 0


def _planned(experiment: Experiment, settings: Sequence[str], flags: Sequence[str]) -> Iterator[tuple[Row, Job | None]]:
    """Each row with the job that measures it; None where condsim does not run it."""
    for row in experiment.rows:
        if row.not_run:
            yield row, None
            continue
        of_row = [*experiment.settings, *row.settings]
        replaced = {setting.partition("=")[0].lstrip("+") for setting in settings}
        # Another choice of a group replaces the settings of the one that the table names.
        not_replaced = [s for s in of_row if not any(s.startswith((f"{name}=", f"{name}.")) for name in replaced)]
        (job,) = jobs(experiment.command, [*flags, *not_replaced, *settings])
        yield row, job


def _looked_for(planned: Sequence[tuple[Row, Job | None]]) -> tuple[dict[tuple[str, str], Lack], list[str]]:
    """Row -> what its benchmark lacks; and where files are there that are not the whole published benchmark."""
    from condsim.datasets.check import check

    reports: dict[str, Report] = {}
    absent: dict[tuple[str, str], Lack] = {}
    partial: list[str] = []
    for row, job in planned:
        if job is None:
            continue
        config = plain(job.config.benchmark)
        search_current_folder(str(config.get("_target_", "")))
        report = reports.setdefault(repr(config), check(config, read_images=False))
        pictures = [f"{path} is missing" for path in report.missing] if _reads_pictures(job) else []
        faults = [
            *report.problems,
            *(
                f"{part.what}: nothing found; {part.place}"
                for part in report.parts
                if _reads_pictures(job) and not part.found
            ),
            *pictures,
        ]
        if faults:
            absent[row.name] = Lack(report.benchmark, tuple(faults))
            continue
        partial += [
            f"{report.benchmark}, {part.what}: {part.found:,} found, {part.expected:,} published: the numbers are not "
            "those of the whole benchmark"
            for part in report.parts
            if part.found and part.expected and part.found != part.expected
        ]
    return absent, list(dict.fromkeys(partial))


def _reads_pictures(job: Job) -> bool:
    """Whether the job's backbone says that it needs every picture; features of a file, for example, need none."""
    target = str(job.config.backbone.get("_target_", ""))
    search_current_folder(target)
    return reads_images(pydoc.locate(target))


def _run(
    experiment: Experiment, planned: Sequence[tuple[Row, Job | None]], absent: Mapping[tuple[str, str], Lack]
) -> tuple[Results, Measured, dict[tuple[str, str], str]]:
    """Make the runs. The results folder, what each row measured, and row -> why it has no run or no number."""
    shared = Outcomes()  # what the runs have in common: trackers, backbones that cannot be loaded, the folder
    runs: dict[tuple[str, str], set[str]] = {}
    missing: dict[tuple[str, str], str] = {}
    for row, job in planned:
        if job is None:
            missing[row.name] = row.not_run
            continue
        if row.name in absent:
            missing[row.name] = absent[row.name].text()
            continue
        outcomes = Outcomes(trackers=shared.trackers, unusable=shared.unusable)
        (train_and_run if experiment.command == "train" else run_here)(job, outcomes, RunState())
        shared.results = outcomes.results
        runs[row.name] = {record.run for record in (*outcomes.done, *outcomes.skipped)}
        reasons = [*outcomes.failed, *(r for m in outcomes.not_applicable.values() for r in m.values())]
        missing[row.name] = reasons[0] if reasons else "the run has no such task or metric"
    for tracker in shared.trackers:
        tracker.finish()
    results = Results(shared.results)
    board = results.leaderboard()
    measured = {name: measured_cells(board.of_runs(hashes).entries if hashes else ()) for name, hashes in runs.items()}
    return results, measured, missing


def _show(
    experiment: Experiment, results: Results, measured: Measured, missing: Mapping[tuple[str, str], str],
    output: Path | None,
) -> int:  # fmt: skip
    published = find_published(results.folder)
    headline = (experiment.benchmarks[0], *experiment.headline)
    cells: list[Compared] = []
    if experiment.axis:
        points = [
            (row.x, measured.get(row.name, {}).get(headline), missing.get(row.name, "")) for row in experiment.rows
        ]
        table = curve_table(f"{experiment.name}: {experiment.title}", experiment.axis, points)
        complete = any(point for _, point, _ in points)
    elif experiment.against:
        scores = {} if published is None else read_scores(published.parent / experiment.against)
        ours = {backbone: 100 * own[headline].value for (_, backbone), own in measured.items() if headline in own}
        pairs = {backbone: (scores[backbone], value) for backbone, value in ours.items() if backbone in scores}
        table, complete = correlation_table(f"{experiment.name}: {experiment.title}", pairs), bool(pairs)
    else:
        reported = published_cells(
            read_published(published), experiment.paper, experiment.tables, experiment.benchmarks
        )
        cells = compared(reported, measured, missing, experiment.tolerance)
        table = comparison_table(f"{experiment.name}: {experiment.paper}, {', '.join(experiment.tables)}", cells)
        complete = any(cell.measured is not None for cell in cells)
    print_tables([table])
    for why in dict.fromkeys(f"{cell.cell.method}: {cell.why}" for cell in cells if cell.measured is None):
        console.print(f"not run: {why}", style="dim")
    for note in experiment.notes:
        console.print(f"note: {note}")
    if output is not None:
        write_text(output, to_csv(cells))
        console.print(f"{output} written, {counted(len(cells), 'cell')}")
    return 0 if complete else 1
