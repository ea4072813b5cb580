"""`condsim search`: find pictures in a folder of your own by picture, by condition, or by both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.terminal.console import console
from condsim.harness.terminal.parser import Parser

EXAMPLES = """\
examples:
  condsim search photos/ --image cup.png
  condsim search photos/ --image cup.png --condition color --condition shape --method clay --top 20 --why
  condsim search photos/ --condition "a red cup" --html sheet.html
  condsim search photos/ --image cup.png --condition mood --method clay --values mood=happy,sad,calm method.rank=5
"""


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_intermixed_args(argv)
    from condsim.harness.index import Index, unused  # imports torch, which --help does not need

    settings: list[tuple[str, Any]] = [_setting(argument) for argument in options.settings]
    unknown = [name for name, _ in settings if not name.startswith(("method.", "backbone."))]
    if unknown:
        raise CondsimError(f"{unknown[0]}: expected a setting method.NAME=VALUE or backbone.NAME=VALUE")
    of_backbone, of_method = (
        {name.removeprefix(part): value for name, value in settings if name.startswith(part)}
        for part in ("backbone.", "method.")
    )
    index = Index(
        options.folder, options.backbone, train=options.train, phrases=options.phrases or (),
        config_dir=options.config_dir, **of_backbone,
    )  # fmt: skip
    values = dict(_values(text) for text in options.values)
    for name in unused(values, options.condition):
        hint = did_you_mean(name, options.condition)
        raise CondsimError(f"--values {name}=...: the query has no such condition. {hint}")
    matches = index.search(
        [(picture, options.condition) for picture in options.image or (None,)], method=options.method,
        k=options.top, why=options.why, values=values, **of_method,
    )  # fmt: skip
    if options.format == "json":
        print(matches.to_json(), end="")
    else:
        for line in matches.lines():
            console.print(line)
    if options.why and matches.reasons is None:
        console.print(f"{matches.method} has no explanation of its scores", style="yellow")
    if options.html:
        matches.to_html(options.html)
        if options.format != "json":
            console.print(f"{options.html} written")
    return 0


def _parser() -> Parser:
    parser = Parser("condsim search", __doc__, epilog=EXAMPLES)
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="the folder with the pictures; its subfolders are searched too"
    )
    parser.add_argument(
        "settings", nargs="*", metavar="SETTING=VALUE", help="such as method.rank=5 or backbone.device=cpu"
    )
    parser.add_argument(
        "--image", action="append", metavar="FILE",
        help="the query picture, in the folder or elsewhere; several: one search each",
    )  # fmt: skip
    parser.add_argument(
        "--condition", action="append", default=[], metavar="TEXT", help="such as color; several: all at once"
    )
    parser.add_argument(
        "--method", help="`condsim ls methods` lists them (default: image_plus_text; image_only without a condition, "
        "text_only without a picture)",
    )  # fmt: skip
    parser.add_argument("--top", type=int, default=20, metavar="K", help="how many pictures to find (default: 20)")
    parser.add_argument("--why", action="store_true", help="explain each result, where the method can")
    parser.add_argument(
        "--values", action="append", default=[], metavar="CONDITION=VALUE,VALUE",
        help="values of a condition, for methods that need them and conditions that the lexicon lacks; quote a value "
        "with a comma: 'mood=happy,\"sad, calm\"'",
    )  # fmt: skip
    add_index_options(parser)
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a contact sheet with the pictures")
    return parser


def add_index_options(parser: Parser) -> None:
    """The options that say how an index of a folder is made, of `condsim search` and `condsim explore`."""
    parser.add_argument(
        "--backbone", default="ViT-B-32/openai", help="`condsim ls backbones` lists them (default: %(default)s)"
    )
    parser.add_argument(
        "--train", type=Path, metavar="FOLDER",
        help="other pictures, for methods that look things up in a training split, such as nnn",
    )  # fmt: skip
    parser.add_argument(
        "--phrases", type=Path, metavar="FILE", help="texts of that split, one per line, for neighborhood_rerank"
    )
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder of your own choices")


def _setting(argument: str) -> tuple[str, Any]:
    name, equals, value = argument.partition("=")
    if not equals:
        raise CondsimError(f"cannot read {argument!r}: expected SETTING=VALUE, such as method.rank=5")
    return name, value


def _values(argument: str) -> tuple[str, tuple[str, ...]]:
    from condsim.methods.phrases.given import read_list

    condition, equals, values = argument.partition("=")
    if not equals:
        raise CondsimError(f"--values {argument}: expected CONDITION=VALUE,VALUE, such as mood=happy,sad")
    return condition, read_list(values)
