"""`condsim submission`: check the files for the server of CIRR or CIRCO, and keep the server's answer to a run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.files.json_files import read_json, read_text
from condsim.harness.results.results import Results
from condsim.harness.results.server import (
    ServerAnswer,
    answer_path,
    read_server_answer,
    submission_files,
    write_server_answer,
)
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.terminal.console import console, warn
from condsim.harness.terminal.parser import Parser

SETTINGS = ("run", "date", "server", "unit")
FAULTS_SHOWN = 20
EXAMPLES = """\
examples:
  condsim submission --check results/runs/cirr/test1/clay-0b1c2d3e4f50/submission/*.json --annotations cirr
  condsim submission --check circo_test.json
  condsim submission recall.json subset.json run=0b1c2d3e4f50 date=2026-11-20
  condsim submission email.txt run=0b1c2d3e4f50              (the date is today's)

An answer is JSON, such as {"recall@1": 33.6}, or lines such as "mAP@5: 9.35". Its numbers become a row of the
leaderboard that is marked with the server and the date. Settings: run=HASH, date=YYYY-MM-DD, server=NAME,
unit=percent or unit=fraction.
"""


def main(argv: Sequence[str]) -> int:
    parser = Parser("condsim submission", __doc__, epilog=EXAMPLES)
    parser.add_argument("words", nargs="*", metavar="FILE|NAME=VALUE", help="files with the server's answer; settings")
    parser.add_argument("--check", nargs="+", type=Path, metavar="FILE", help="check submission files; keep nothing")
    parser.add_argument(
        "--annotations", type=Path, metavar="FOLDER",
        help="with --check: CIRR's annotations, to look up pairs, references and image sets",
    )  # fmt: skip
    parser.add_argument(
        "--image-info", type=Path, metavar="FILE", help="with --check: COCO's image list, to look up CIRCO's images"
    )
    parser.add_results()
    options = parser.parse_intermixed_args(argv)
    if options.check:
        sound = [check(path, options.annotations, options.image_info) for path in options.check]
        return 0 if all(sound) else 1
    settings = dict(word.split("=", 1) for word in options.words if "=" in word)
    for name in settings:
        if name not in SETTINGS:
            raise CondsimError(f"{name}={settings[name]}: there is no such setting. {did_you_mean(name, SETTINGS)}")
    files = [Path(word).expanduser() for word in options.words if "=" not in word]
    return keep_answer(Results(options.results), files, settings)


def check(path: Path, annotations: Path | None, image_info: Path | None) -> bool:
    """Print what a server would refuse in one submission file, or that it is valid. Whether it is valid."""
    from condsim.datasets import circo, circo_submission, cirr, cirr_submission

    value = read_json(path, "a submission file of CIRR or CIRCO")
    looked_up = "images were not looked up, name COCO's list with --image-info"
    if isinstance(value, dict) and {"version", "metric"} & value.keys():
        task = None
        looked_up = "pairs, references and image sets were not looked up, name CIRR's folder with --annotations"
        if annotations is not None:
            looked_up = ""
            (task,) = cirr.load(str(annotations), split="test1", on_error="survey").tasks  # type: ignore[arg-type]
            for fault in task.skipped:
                raise CondsimError(fault)
        faults, name = cirr_submission.faults(value, task), f"CIRR test1, {value.get('metric')}"
        size = path.stat().st_size
        if size > cirr_submission.MAX_BYTES:
            console.print(f"{path}: {size:,} bytes, the server takes {cirr_submission.MAX_BYTES:,}", style="red")
            return False
    else:
        gallery = None
        if image_info is not None:
            gallery, looked_up = circo.read_gallery(image_info).keys(), ""
        faults, name = circo_submission.faults(value, gallery=gallery), "CIRCO test"
    first_faults = list(islice(faults, FAULTS_SHOWN + 1))
    for fault in first_faults[:FAULTS_SHOWN]:
        console.print(f"{path}: {fault}", style="red")
    if len(first_faults) > FAULTS_SHOWN:
        console.print(f"{path}: more faults follow", style="red")
    if not first_faults:
        console.print(f"{path}: a valid submission for {name}" + f" ({looked_up})" * bool(looked_up))
    return not first_faults


def keep_answer(results: Results, files: Sequence[Path], settings: dict[str, str]) -> int:
    """Keep the answer in ``files`` beside the run that ``settings`` name, and show its row."""
    from condsim.datasets.server_answer import read_answer

    if not files:
        raise CondsimError("name the files with the server's answer: condsim submission answer.json run=HASH")
    results.require_runs()
    run = _run(results, settings.get("run", ""))
    server, metrics = _server(run)
    unit = settings.get("unit")
    if unit not in (None, "percent", "fraction"):
        raise CondsimError(f"unit={unit}: expected percent or fraction")
    try:
        known = read_server_answer(run.folder, run.record)
    except CondsimError as error:
        warn(f"replaced: {error}")
        known = None
    numbers = {} if known is None else dict(known.metrics)
    for path in files:
        text = read_text(path, "the answer of a server, JSON or text")
        read, others = read_answer(text, metrics, str(path), unit)  # type: ignore[arg-type]
        for metric, value in read.items():
            if numbers.setdefault(metric, value) != value:
                raise CondsimError(
                    f"{path}: {metric} is {100 * value:g}, but {100 * numbers[metric]:g} is kept for this run: one "
                    f"submission has one value. Is it the answer to run={run.run}? To replace it, delete "
                    f"{answer_path(run.folder, run.run)}"
                )
        if others:
            console.print(f"not kept, since the task has no such metric: {', '.join(others)}", style="dim")
    if absent := [metric for metric in metrics if metric not in numbers]:
        console.print(f"not in the answer: {', '.join(absent)}", style="dim")
    answer = ServerAnswer(
        run.run, settings.get("server", server), _date(settings.get("date")), numbers, submission_files(run.record)
    )
    path = write_server_answer(run.folder, answer)
    console.print(f"{path} written: {len(numbers)} metrics of {run.label} on {run.record.full_task}, by {answer}")
    fresh = Results(results.folder)
    fresh.leaderboard().of_runs({run.run}).print()
    fresh.write_leaderboard()
    return 0


def _run(results: Results, digits: str) -> StoredRun:
    """The run with submission files whose hash starts with ``digits``."""
    submitted = [run for run in results.runs if submission_files(run.record)]
    if not submitted:
        raise CondsimError(
            f"no run in {results.folder} has submission files: `condsim bench` writes them for splits without answers "
            "(benchmark=cirr benchmark.split=test1, benchmark=circo benchmark.split=test)"
        )
    fitting = [run for run in submitted if digits and run.run.startswith(digits)]
    if len(fitting) == 1:
        return fitting[0]
    names = "; ".join(f"run={run.run} ({run.label} on {run.record.full_task})" for run in submitted)
    which = f"{len(fitting)} runs start with run={digits}" if fitting else f"run={digits} is no run with such files"
    raise CondsimError(f"{which if digits else 'name the run'}. Runs with submission files: {names}")


def _server(run: StoredRun) -> tuple[str, Collection[str]]:
    """The usual server of the run's benchmark, and the metrics that it computes."""
    from condsim.datasets import circo, circo_submission, cirr, cirr_submission

    if any("circo" in name for name in submission_files(run.record)):
        return circo_submission.SERVER, circo.METRICS
    return cirr_submission.SERVER, cirr.METRICS


def _date(text: str | None) -> str:
    today = datetime.now(UTC).astimezone().date()
    try:
        day = today if text is None else date.fromisoformat(text)
    except ValueError:
        raise CondsimError(f"date={text}: expected YYYY-MM-DD, such as 2026-11-20") from None
    if day > today:
        raise CondsimError(f"date={text} is in the future")
    return day.isoformat()
