"""`condsim cache ls|verify|prune`: list the stored features, check them, delete some."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from condsim.harness.features.cache.maintenance import Damage, Stored, choose, prune, survey, verify
from condsim.harness.files.paths import cache_folder
from condsim.harness.terminal.console import console
from condsim.harness.terminal.parser import Parser


def main(argv: Sequence[str]) -> int:
    """`condsim cache`; the exit status is 1 if `verify` finds damage that it does not repair."""
    parser = Parser("condsim cache", __doc__)
    parser.add_argument("--cache-dir", type=Path, default=None, help="default: CONDSIM_CACHE, else ~/.cache/condsim")
    commands = parser.add_subparsers(dest="command", required=True, metavar="ls|verify|prune")
    commands.add_parser("ls", help="list the backbones whose features are stored")
    check = commands.add_parser("verify", help="read every feature and compare its checksum")
    check.add_argument("--repair", action="store_true", help="delete damaged rows; they are encoded again when needed")
    room = commands.add_parser("prune", help="delete features, and unfinished files of killed processes")
    room.add_argument("folders", nargs="*", metavar="FOLDER", help="a folder as listed by `ls`")
    room.add_argument("--unused-for", type=float, metavar="DAYS", help="every backbone not used for this long")
    room.add_argument("--all", action="store_true", help="every backbone")
    room.add_argument("--dry-run", action="store_true", help="only list what would be deleted")
    options = parser.parse_args(argv)
    root = cache_folder(options.cache_dir)
    if options.command == "ls":
        _print_stored(root, *survey(root))
        return 0
    if options.command == "verify":
        damage = verify(root, options.repair)
        _print_damage(damage)
        advice = (
            "" if not damage else "; repaired" if options.repair else "; `condsim cache verify --repair` repairs them"
        )
        console.print(f"{len(damage)} damaged files in {root}{advice}")
        return 1 if damage and not options.repair else 0
    chosen = choose(root, options.folders, options.unused_for, options.all)
    verb = "would delete" if options.dry_run else "deleted"
    deleted, busy = prune(root, chosen, options.dry_run)
    for path, size in deleted.items():
        console.print(f"{verb} {path.name}, {_megabytes(size)}")
    for path in busy:
        console.print(f"not deleted, because another process is writing to it: {path.name}")
    return 0


def _print_stored(root: Path, entries: Sequence[Stored], damage: Sequence[Damage]) -> None:
    _print_damage(damage)
    if not entries:
        console.print(f"no features are stored in {root}")
        return
    columns = ("model", "weights", "transform", "precision", "images", "texts", "width", "size", "last used", "folder")
    table = Table(*columns)
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        about = (entry.identity.get("model", ""), entry.weights, entry.identity.get("transform", ""))
        counts = (f"{entry.counts['image']:,}", f"{entry.counts['text']:,}", str(entry.width), _megabytes(entry.size))
        cells = (*about, entry.identity.get("precision", ""), *counts, used, entry.path.name)
        table.add_row(*cells)
    console.print(table)
    console.print(f"{_megabytes(sum(entry.size for entry in entries))} in {root}")


def _print_damage(damage: Sequence[Damage]) -> None:
    for entry in damage:
        console.print(f"{entry.file}: {entry.fault}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
