"""`condsim explore`: look through pictures in a local web page, compare two methods, mark results, and measure methods
on the marks."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from condsim.harness.commands.search import add_index_options
from condsim.harness.errors import CondsimError
from condsim.harness.terminal.console import console
from condsim.harness.terminal.parser import Parser

if TYPE_CHECKING:
    from condsim.harness.explorer.search import Target

EXAMPLES = """\
examples:
  condsim explore photos/
  condsim explore photos/ --backbone ViT-L-14/openai --marks my-marks --port 8000
  condsim explore tasks=[cirr] --backbone shapes-clip
  condsim explore benchmark=genecis tasks=[focus_attribute]
"""


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_intermixed_args(argv)
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise CondsimError(f"the page needs Gradio ({error}): pip install 'condsim[explore]'") from None
    from condsim.harness.explorer.explorer import Explorer
    from condsim.harness.explorer.page import build, open_page
    from condsim.harness.search.marks import Marks

    marks = Marks(options.marks)
    explorer = Explorer(_target(options), marks)
    page = build(explorer)
    try:
        address = open_page(page, options.port, in_browser=not options.no_browser)
    except OSError:
        where = f"port {options.port} is" if options.port else "ports 7860 to 7959 are"
        raise CondsimError(f"{where} in use: choose another one with --port") from None
    console.print(f"{len(explorer.target.index):,} pictures at {address} (this machine only). Ctrl+C ends it")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print(f"\n{len(marks):,} marks are in {marks.file}" if len(marks) else "")
    finally:
        page.close(verbose=False)
        explorer.close()
    return 0


def _target(options: argparse.Namespace) -> Target:
    """What the page looks at. Raises CondsimError where there is no such folder or task."""
    from condsim.harness.explorer.search import Target
    from condsim.harness.explorer.task import chosen_questions
    from condsim.harness.index import Index

    train = {name: value for name in ("train", "phrases") if (value := getattr(options, name)) is not None}
    first = options.source[0]
    if len(options.source) == 1 and ("=" not in first or Path(first).is_dir()):
        index = Index(first, options.backbone, config_dir=options.config_dir, **train)
        if index.pictures.parts is not None:
            raise CondsimError(f"{first} has features alone, and this page shows pictures: use `condsim search`")
        words = [word for name, value in train.items() for word in (f"--{name}", str(value))]
        return Target(index, (first,), options.backbone, options.config_dir, tuple(words))
    if train:
        raise CondsimError(f"--{next(iter(train))}: a benchmark has its own training split")
    if other := [word for word in options.source if "=" not in word]:
        raise CondsimError(f"{other[0]}: give one folder, or the settings of a benchmark (benchmark=NAME tasks=[TASK])")
    folders = [] if options.config_dir is None else ["--config-dir", options.config_dir]
    questions = chosen_questions([*folders, *options.source])
    index = Index(
        questions.gallery, options.backbone, train=questions.train, benchmark=questions.choice,
        config_dir=options.config_dir,
    )  # fmt: skip
    return Target(index, tuple(options.source), options.backbone, options.config_dir, questions=questions)


def _parser() -> Parser:
    parser = Parser("condsim explore", __doc__, epilog=EXAMPLES)
    parser.add_argument(
        "source", nargs="+", metavar="FOLDER | benchmark=NAME",
        help="the folder with the pictures and its subfolders, or a task of a benchmark with its queries: "
        "benchmark=NAME and other settings, such as tasks=[focus_attribute]",
    )  # fmt: skip
    add_index_options(parser)
    parser.add_argument(
        "--marks", type=Path, default=Path("marks"), metavar="FOLDER", help="for your marks (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    return parser
