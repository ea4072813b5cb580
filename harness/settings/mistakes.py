"""What is wrong with a choice or a setting that does not exist: a sentence with the nearest valid names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from condsim.harness.errors import did_you_mean, first_line
from condsim.harness.run.record import flat
from condsim.harness.settings.arguments import Setting
from condsim.harness.settings.config_files import choices_of
from condsim.harness.settings.signatures import parameters

if TYPE_CHECKING:
    from condsim.harness.settings.composition import Composer


def explain_choices(composer: Composer, groups: Sequence[str], error: Exception) -> str:
    """Which of the overrides ``groups`` chooses what does not exist, found by adding them one by one."""
    accepted: list[str] = []
    for argument in groups:
        try:
            composer.compose((*accepted, argument))
            accepted.append(argument)
        except (HydraException, OmegaConfBaseException, ValueError) as reason:
            setting = Setting.read(argument)
            group = setting.name.split("@")[0]
            known = choices_of(group, composer.folders)
            if setting.text in known or not known:
                return f"{argument}: {first_line(reason)}"
            if Path(group, f"{setting.text}.yaml").is_file():
                return f"{group}/{setting.text}.yaml in the current folder is not searched: add --config-dir ."
            advice = did_you_mean(setting.text, known, f"condsim ls {group}") + _open_clip(group, setting.text)
            return f"there is no {group} {setting.text!r}. {advice}"
    return first_line(error)


def _open_clip(group: str, choice: str) -> str:
    """How to name a model of open_clip that has no file of its own."""
    model, separator, tag = choice.partition("/")
    if group != "backbone" or not separator:
        return ""
    return f" Other models of open_clip: backbone=open_clip backbone.model={model} backbone.pretrained={tag}"


def explain_setting(composer: Composer, config: DictConfig, setting: Setting, error: Exception) -> str:
    """Which part of the setting's name does not exist in ``config``; else what Hydra says."""
    node: Any = config
    walked: list[str] = []
    for part in setting.name.split("."):
        if not OmegaConf.is_dict(node) or part not in node:
            listed = {str(name): node._get_node(name) for name in node} if OmegaConf.is_dict(node) else {}
            taken = parameters(str(listed.pop("_target_", ""))) or {}
            if part in taken:
                return f"{setting.argument}: no YAML lists this setting: put + before it, +{setting.argument}"
            names = {*listed, *taken}
            if not walked:
                names |= {group for group in composer.compose(()).choices if group.isidentifier()}
                every = flat(cast(dict[str, Any], OmegaConf.to_container(config)))
                names = {
                    name for name in every if name.endswith(f".{part}") and not name.startswith("choose.")
                } or names
            place = f"{'.'.join(walked)} has no setting" if walked else "there is no setting"
            return f"{setting.argument}: {place} {part!r}. {did_you_mean(part, names)}"
        node = node._get_node(part) if OmegaConf.is_missing(node, part) else node[part]
        walked.append(part)
    return f"{setting.argument}: {first_line(error)}"
