"""`condsim explore`: look through a folder of pictures in a local web page, compare methods, and mark results."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from pathlib import Path

from condsim.harness.console import console
from condsim.harness.errors import CondsimError

EXAMPLES = """\
examples:
  condsim explore photos/
  condsim explore photos/ --backbone ViT-L-14/openai --marks my-marks --port 8000
"""


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise CondsimError(f"the page needs Gradio ({error}): pip install 'condsim[explore]'") from None
    from condsim.harness.commands.explore_page import build, open_page
    from condsim.harness.commands.explore_search import Target
    from condsim.harness.commands.explorer import Explorer
    from condsim.harness.commands.index import Index
    from condsim.harness.search.marks import Marks

    marks = Marks(options.marks)
    index = Index(options.folder, options.backbone, config_dir=options.config_dir)
    explorer = Explorer(Target(index, options.folder, options.backbone, options.config_dir), marks)
    page = build(explorer)
    try:
        address = open_page(page, options.port, in_browser=not options.no_browser)
    except OSError:
        where = f"port {options.port} is" if options.port else "ports 7860 to 7959 are"
        raise CondsimError(f"{where} in use: choose another one with --port") from None
    console.print(f"{len(index):,} pictures at {address} (this machine only). Ctrl+C ends it")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print(f"\n{len(marks):,} marks are in {marks.file}" if len(marks) else "")
    finally:
        page.close(verbose=False)
        explorer.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "condsim explore", description="Look through a folder of pictures in a local web page: search by picture and "
        "condition, compare two methods side by side, mark results, and measure methods on the marks.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="the folder with the pictures; its subfolders are shown too")
    parser.add_argument(
        "--backbone", default="ViT-B-32/openai", help="`condsim ls backbones` lists them (default: %(default)s)"
    )
    parser.add_argument(
        "--marks", type=Path, default=Path("marks"), metavar="FOLDER", help="for your marks (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder of your own choices")
    return parser
