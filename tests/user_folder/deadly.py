"""A method whose process is killed once."""

from pathlib import Path

from labour import die_once  # type: ignore[import-not-found]
from toy import Constant  # type: ignore[import-not-found]

from condsim.harness.method import Gallery, Scorer


class Deadly(Constant):
    """The first process that prepares it with the value 3 dies."""

    def prepare(self, gallery: Gallery) -> Scorer:
        if self.value == 3:
            die_once(Path("died"))
        return super().prepare(gallery)
