"""Galleries as folders of parts: written block by block, read without copying, refused where they are damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from condsim.harness.errors import CondsimError
from condsim.harness.files import gallery_parts
from condsim.harness.files.gallery_parts import Parts, is_parts, read_parts, write_parts
from condsim.harness.files.memory_map import is_mapped

FEATURES = np.random.default_rng(0).standard_normal((11, 3)).astype(np.float32)
NAMES = [f"{i}.jpg" for i in range(11)]


@pytest.fixture(autouse=True)
def _small_grain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_parts, "GRAIN", 2)


def write(folder: Path, cuts: tuple[int, ...] = (0, 11), rows: int = 4, dtype: str = "float32") -> Parts:
    blocks = [(NAMES[start:stop], FEATURES[start:stop]) for start, stop in pairwise(cuts)]
    return write_parts(folder, blocks, rows_per_part=rows, dtype=dtype)


@pytest.mark.parametrize("cuts", [(0, 11), (0, 1, 4, 9, 11), (0, 4, 8, 11), (0, 0, 11)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_any_blocks_give_the_same_parts(tmp_path: Path, cuts: tuple[int, ...], dtype: str) -> None:
    written = write(tmp_path / "gallery", cuts, dtype=dtype)
    assert (written.sizes, written.starts, len(written), written.width) == ((4, 4, 3), (0, 4, 8), 11, 3)
    assert list(written.names) == NAMES
    for i, start in enumerate(written.starts):
        np.testing.assert_array_equal(
            np.load(tmp_path / "gallery" / written.files[i]), FEATURES[start : start + 4].astype(dtype)
        )
        assert is_mapped(written.features(i))
    rows = torch.tensor([10, 0, 4, 3, 10])
    torch.testing.assert_close(written.gather(rows), torch.from_numpy(FEATURES.astype(dtype)).float()[rows])
    assert read_parts(tmp_path / "gallery") == written
    assert is_parts(tmp_path / "gallery")
    assert not is_parts(tmp_path)


def test_what_cannot_be_written_is_named_and_leaves_no_folder(tmp_path: Path) -> None:
    bad = FEATURES.copy()
    bad[6, 1] = np.nan
    large = np.full((1, 3), 1e6, dtype=np.float32)
    cases: list[tuple[Callable[[Path], object], str]] = [
        (lambda at: write_parts(at, [(NAMES[:4], bad[:4]), (NAMES[4:], bad[4:])]), r"row 6 \(6.jpg\): its features"),
        (lambda at: write_parts(at, [(["big"], large)]), r"row 0 \(big\): .* beyond float16"),
        (lambda at: write_parts(at, [(NAMES[:3], FEATURES)]), r"features of shape \[11, 3\], expected \[3, D\]"),
        (lambda at: write_parts(at, [(["a"], FEATURES[:1]), (["b"], FEATURES[:1, :2])]), r"expected \[1, 3\]"),
        (lambda at: write_parts(at, []), f"^{tmp_path / 'gallery'}: there is nothing to write"),
        (lambda at: write(at, rows=3), "rows_per_part=3: expected a multiple of 2"),
        (lambda at: write(at, dtype="int8"), "expected float16 or float32"),
    ]
    for make, message in cases:
        with pytest.raises(CondsimError, match=message):
            make(tmp_path / "gallery")
        assert not (tmp_path / "gallery").exists()
    write(tmp_path / "gallery")
    with pytest.raises(CondsimError, match="there is something already"):
        write(tmp_path / "gallery")


def test_a_folder_that_is_not_what_its_manifest_says_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    write(folder)
    manifest = json.loads((folder / "manifest.json").read_text())

    def changed(**entries: object) -> str:
        return json.dumps(manifest | entries)

    sizes = [{"file": f"part-0000{i}.npy", "rows": rows} for i, rows in enumerate((4, 3, 4))]
    for text, message in (
        ("{", "not the manifest"),
        (changed(schema=9), "schema 9, expected 1"),
        (changed(width=4), r"float32 of shape \(4, 3\), expected float16 or float32 of shape \(4, 4\)"),
        (changed(parts=sizes), "part-00001.npy has 3 rows. All parts but the last need a multiple of 2"),
        (changed(parts=manifest["parts"][:2]), "8 rows of features, but 11 names"),
        (changed(parts=[]), "no parts"),
        (changed(zero=[3, 11]), "zero: a row is not among the 11 rows"),
    ):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(CondsimError, match=message):
            read_parts(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "names.arrow").write_bytes(b"no names")
    with pytest.raises(CondsimError, match=r"names.arrow: cannot be read as names"):
        read_parts(folder)
    (folder / "part-00001.npy").unlink()
    with pytest.raises(CondsimError, match=r"part-00001.npy: cannot be read as features"):
        read_parts(folder)
