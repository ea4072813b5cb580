"""`condsim train-backbone`: train the embedded backbone from its config, conf/train_backbone.yaml."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import hydra
from hydra.utils import call
from omegaconf import DictConfig

from condsim.harness.overrides import check_overrides


def main(argv: Sequence[str]) -> int:
    if not {"--help", "-h"} & set(argv):
        check_overrides("train_backbone", argv)

    def job(config: DictConfig) -> None:
        call(config, _convert_="all")

    sys.argv = ["condsim train-backbone", *argv]
    hydra.main(version_base="1.3", config_path="pkg://condsim.conf", config_name="train_backbone")(job)()
    return 0
