"""What is said on the terminal: rich where there is one, plain where not or where NO_COLOR is set."""

from __future__ import annotations

from rich.console import Console

console = Console(soft_wrap=True, highlight=False)
