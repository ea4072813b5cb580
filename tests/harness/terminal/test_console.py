"""Text from data never steers the terminal, on either stream."""

import pytest
from rich.table import Table
from rich.text import Text

from condsim.harness.cli import main
from condsim.harness.terminal.console import console, warn

HOSTILE = "\x1b[31mred\x1b[0m \x9b2J \x07 \ud800 gpj.\u202etac [red]x[/x] é"
SHOWN = r"\x1b[31mred\x1b[0m \x9b2J \x07 \ud800 gpj.\u202etac [red]x[/x] é"


def test_messages_show_their_text_letter_by_letter(capsys: pytest.CaptureFixture[str]) -> None:
    console.print(HOSTILE)
    warn(HOSTILE)
    assert capsys.readouterr() == (SHOWN + "\n", SHOWN + "\n")


def test_tables_show_their_cells_letter_by_letter(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("\x1b[2J", box=None)
    table.add_row(Text("a\u202eb\x1b]0;title\x07"))
    console.print(table, width=80)
    head, row = (line.strip() for line in capsys.readouterr().out.splitlines())
    assert head == r"\x1b[2J"
    assert row.startswith(r"a\u202eb")
    assert row.isprintable()


def test_messages_of_errors_show_their_text_letter_by_letter(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["\x1b[2J"]) == 2
    assert main(["leaderboard", "--results", "none\x1b[2J\u202e[red]"]) == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert r"none\x1b[2J\u202e[red]" in shown
