"""The real annotation files, which are no part of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "CONDSIM_ANNOTATIONS"
DEFAULT = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session", name="annotations")
def annotation_folder() -> Path:
    """A folder with genecis/ (the four template files), cirr/ and fashioniq/ (captions/ and image_splits/), circo/."""
    folder = Path(os.environ.get(VARIABLE) or DEFAULT)
    if not folder.is_dir():
        pytest.skip(f"no real annotation files: set {VARIABLE} to a folder that holds genecis/ and cirr/")
    return folder


@pytest.fixture(scope="session")
def genecis_templates(annotations: Path) -> Path:
    if not (annotations / "genecis").is_dir():
        pytest.skip(f"{VARIABLE}={annotations} has no genecis/ with GeneCIS's template files")
    return annotations / "genecis"


@pytest.fixture(scope="session")
def cirr_annotations(annotations: Path) -> Path:
    if not (annotations / "cirr").is_dir():
        pytest.skip(f"{VARIABLE}={annotations} has no cirr/ with CIRR's captions and splits")
    return annotations / "cirr"


@pytest.fixture(scope="session")
def circo_folder(annotations: Path) -> Path:
    if not (annotations / "circo").is_dir():
        pytest.skip(f"{VARIABLE}={annotations} has no circo/ with CIRCO's annotations/ and submission_examples/")
    return annotations / "circo"


@pytest.fixture(scope="session")
def fashioniq_annotations(annotations: Path) -> Path:
    if not (annotations / "fashioniq").is_dir():
        pytest.skip(f"{VARIABLE}={annotations} has no fashioniq/ with FashionIQ's captions and splits")
    return annotations / "fashioniq"


@pytest.fixture(scope="session")
def domain_conversion_lists(annotations: Path) -> Path:
    if not (annotations / "domain_conversion").is_dir():
        pytest.skip(f"{VARIABLE}={annotations} has no domain_conversion/ with FreeDom's and Pic2Word's lists")
    return annotations / "domain_conversion"
