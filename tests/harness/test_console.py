"""Text from data never steers the terminal, on either stream."""

import pytest

from condsim.harness.console import console, warn

HOSTILE = "\x1b[31mred\x1b[0m \x9b2J \x07 \ud800 [red]x[/x] é"
SHOWN = r"\x1b[31mred\x1b[0m \x9b2J \x07 \ud800 [red]x[/x] é"


def test_messages_show_their_text_letter_by_letter(capsys: pytest.CaptureFixture[str]) -> None:
    console.print(HOSTILE)
    warn(HOSTILE)
    assert capsys.readouterr() == (SHOWN + "\n", SHOWN + "\n")
