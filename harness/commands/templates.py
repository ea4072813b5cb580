"""`condsim templates`: make GeneCIS-style templates from annotations, in the form that `benchmark=genecis` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from condsim.datasets.make_templates import read_attribute_types, read_instances, read_panoptic
from condsim.datasets.templates import (
    Templates,
    change_attribute_templates,
    focus_attribute_templates,
    object_templates,
    write_templates,
)
from condsim.harness.errors import CondsimError
from condsim.harness.names import notes_on_alike
from condsim.harness.settings.composition import for_each_job
from condsim.harness.terminal.console import console, print_note


def main(argv: Sequence[str]) -> int:
    return for_each_job("templates", argv, run)


def run(settings: Mapping[str, Any]) -> int:
    """Raises CondsimError naming the file, the entry and what was expected."""
    output = Path(settings["output"])
    rng = np.random.default_rng(settings["seed"])
    templates_of: dict[str, Templates] = {}
    if settings["instances"]:
        if not settings["attribute_types"]:
            raise CondsimError(
                "instances need attribute_types=FILE: a table with the columns attribute and type, or a JSON object"
            )
        types = read_attribute_types(Path(settings["attribute_types"]))
        for note in (*notes_on_alike(types, "attributes"), *notes_on_alike(types.values(), "attribute types")):
            print_note(note)
        instances = read_instances(Path(settings["instances"]))
        counts = settings["per_condition"]
        templates_of["focus_attribute"] = focus_attribute_templates(instances, types, counts["focus"], rng)
        templates_of["change_attribute"] = change_attribute_templates(instances, types, counts["change"], rng)
    if settings["panoptic"]:
        bags = read_panoptic(Path(settings["panoptic"]), settings["objects"]["min_share"])
        rules = {key: value for key, value in settings["objects"].items() if key not in ("count", "min_share")}
        for task, change in (("focus_object", False), ("change_object", True)):
            templates_of[task] = object_templates(bags, settings["objects"]["count"], rng, **rules, change=change)
    if not templates_of:
        raise CondsimError("nothing to make templates from: set instances=FILE attribute_types=FILE, or panoptic=FILE")
    for task, templates in templates_of.items():
        count = len(templates.templates)
        if count:
            write_templates(output, task, templates, count, rng)
        conditions = len({template["condition"] for template in templates.templates})
        reason = "" if count else ": no reference has the distractors that the rules require, so no file is written"
        console.print(f"{task:<17} {count:,} templates, {conditions:,} conditions{reason}")
    if not any(templates.templates for templates in templates_of.values()):
        return 1
    tasks = ",".join(task for task, templates in templates_of.items() if templates.templates)
    console.print(f"{output} written: condsim bench benchmark=genecis benchmark.templates={output} tasks=[{tasks}]")
    return 0
