"""Files named in settings: their content identifies a run, on every machine and wherever they lie."""

from pathlib import Path

from condsim.harness.run.identity import with_contents


def test_content_counts_and_place_does_not(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one.yaml", "two.yaml", "other.yaml"))
    for path, text in ((one, "color: [red]"), (two, "color: [red]"), (other, "color: [green]")):
        path.write_text(text)
    config = {"phrases": {"file": str(one)}, "rank": 5, "name": "color", "several": [str(two), None]}
    seen = with_contents(config, tmp_path)
    assert seen["phrases"]["file"] == seen["several"][0] != with_contents(str(other), tmp_path)
    assert str(tmp_path) not in str(seen)
    assert (seen["rank"], seen["name"], seen["several"][1]) == (5, "color", None)


def test_a_changed_file_is_another(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"1")
    before = with_contents(str(path), tmp_path)
    path.write_bytes(b"22")
    assert with_contents(str(path), tmp_path) != before


def test_a_file_beside_the_images_and_in_a_package(tmp_path: Path) -> None:
    (tmp_path / "seen.csv").write_text("image,category\n")
    beside = with_contents("images://seen.csv", tmp_path)
    assert beside == with_contents(str(tmp_path / "seen.csv"), Path("elsewhere"))
    assert with_contents("pkg://condsim.methods.phrases/lexicon.yaml", tmp_path).startswith("content:")


def test_what_is_no_file_stays(tmp_path: Path) -> None:
    for text in ("a photo of {}", "", "~", "pkg://no.such.package/file", "x" * 5000, "null\0byte", str(tmp_path)):
        assert with_contents(text, tmp_path) == text
