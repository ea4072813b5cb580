"""The downloader against a server of our own on 127.0.0.1 that can misbehave."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import get_method
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from condsim.datasets import download as downloading
from condsim.datasets.download import _unpack, choose, fetch
from condsim.datasets.sources import OPTIONS, SOURCES, Remote, Source
from condsim.harness.commands import download as download_command
from condsim.harness.commands.download import run as command
from condsim.harness.errors import CondsimError
from condsim.harness.settings.composition import compose_config

BODY = bytes(range(256)) * 4000


@dataclass
class Server:
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which the connection is dropped, for the next requests in turn."""
    requests: list[str] = field(default_factory=list)
    """The Range header of each request."""
    credentials: list[str | None] = field(default_factory=list)
    redirect: str = ""
    """Where every request is sent on to."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            state.requests.append(self.headers.get("Range", ""))
            state.credentials.append(self.headers.get("Authorization"))
            if state.redirect:
                self.send_response(302)
                self.send_header("Location", state.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = state.files.get(self.path.lstrip("/"))
            if body is None:
                self.send_error(404)
                return
            start = 0
            if state.ranges and self.headers.get("Range"):
                start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if state.cut_after:
                self.wfile.write(body[start : start + state.cut_after.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
            else:
                self.wfile.write(body[start:])

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.handle_error = lambda *_: None  # type: ignore[method-assign]
    state.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    running.shutdown()
    running.server_close()


def remote(server: Server, name: str = "a.json", content: bytes = BODY, **more: Any) -> Remote:
    server.files[name] = content
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Remote(
        **{"url": f"{server.url}/{name}", "place": f"x/{name}", "size": len(content), "checksum": checksum, **more}
    )  # type: ignore[arg-type]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*") if path.name != ".download.lock")


def zipped(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            archive.writestr(info, target)
    return buffer.getvalue()


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    asked_for = remote(server)
    path = fetch(asked_for, tmp_path)
    assert path == tmp_path / "x" / "a.json"
    assert path.read_bytes() == BODY
    assert fetch(asked_for, tmp_path) == path
    assert server.requests == [""]
    assert leftovers(tmp_path) == []


def test_a_hugging_face_token_stays_at_home(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(remote(server), tmp_path)
    assert server.credentials == [None]


def test_a_dropped_connection_is_taken_up_again(server: Server, tmp_path: Path) -> None:
    server.cut_after = [300_000, 200_000]
    assert fetch(remote(server), tmp_path).read_bytes() == BODY
    assert len(server.requests) == 3
    first, *rest = (int(request.removeprefix("bytes=").rstrip("-") or 0) for request in server.requests)
    assert first == 0 < rest[0] < rest[1], "each time the rest only"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_killed_download_continues_from_what_is_there(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges = ranges
    part = tmp_path / "x" / ".a.json.part"
    part.parent.mkdir()
    part.write_bytes(BODY[:400_000])
    assert fetch(remote(server), tmp_path).read_bytes() == BODY
    assert server.requests == ["bytes=400000-"]
    assert leftovers(tmp_path) == []


def test_what_is_kept_may_be_whole_too_long_or_of_another_file(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "x" / ".a.json.part"
    part.parent.mkdir()
    part.write_bytes(BODY)
    assert fetch(remote(server), tmp_path).read_bytes() == BODY
    assert server.requests == [], "only checked"
    for place, kept, size in (("b", BODY + b"more", len(BODY)), ("c", BODY, None)):
        part.with_name(f".{place}.part").write_bytes(kept)
        assert fetch(remote(server, place, size=size), tmp_path).read_bytes() == BODY
    part.with_name(".d.part").write_bytes(b"x" * 1000)
    with pytest.raises(CondsimError, match=r"sha256 is .*, published is .*the same command fetches it again"):
        fetch(remote(server, "d"), tmp_path)
    assert fetch(remote(server, "d"), tmp_path).read_bytes() == BODY


def test_a_wrong_checksum_or_size_leaves_nothing_in_place(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match=r"a\.json.*sha256 is"):
        fetch(remote(server, checksum="sha256:" + "0" * 64), tmp_path)
    with pytest.raises(CondsimError, match=r"a\.json"):
        fetch(remote(server, size=7), tmp_path)
    assert not (tmp_path / "x" / "a.json").exists()


def test_a_file_that_was_there_is_neither_trusted_nor_overwritten(server: Server, tmp_path: Path) -> None:
    asked_for = remote(server)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.json").write_bytes(b"mine")
    with pytest.raises(CondsimError, match=r"has 4 bytes, .*move it away"):
        fetch(asked_for, tmp_path)
    assert (tmp_path / "x" / "a.json").read_bytes() == b"mine"


def test_nobody_there_and_nothing_there(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match=r"none\.json could not be fetched: .*404.*the same command resumes"):
        fetch(Remote(f"{server.url}/none.json", "none.json"), tmp_path)
    with pytest.raises(CondsimError, match="could not be fetched"):
        fetch(Remote("http://127.0.0.1:9/none.json", "none.json"), tmp_path)


def test_an_archive_becomes_its_folder(server: Server, tmp_path: Path) -> None:
    content = zipped({"VG/1.jpg": b"one", "VG/deep/2.jpg": b"two", "__MACOSX/x": b""})
    asked_for = remote(server, "vg.zip", content, place="images/VG")
    path = fetch(asked_for, tmp_path)
    assert {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*.jpg")} == {
        "1.jpg": b"one",
        "deep/2.jpg": b"two",
    }
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["VG"]
    fetch(asked_for, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "name", ["../evil.txt", "VG/../../evil.txt", "/evil.txt", "VG\\..\\..\\evil.txt", "C:/evil.txt"]
)
def test_members_that_would_leave_the_folder_are_refused(server: Server, tmp_path: Path, name: str) -> None:
    content = zipped({"VG/1.jpg": b"one", name: b"evil"})
    with pytest.raises(CondsimError, match=r"is refused: .* would leave the folder"):
        fetch(remote(server, "vg.zip", content, place="a/b/VG"), tmp_path / "data")
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or path.name == "VG"]
    assert leftovers(tmp_path) == []


def test_links_are_refused(server: Server, tmp_path: Path) -> None:
    content = zipped({"VG/1.jpg": b"one"}, links={"VG/out": "/etc"})
    with pytest.raises(CondsimError, match="'VG/out' would leave the folder"):
        fetch(remote(server, "vg.zip", content, place="VG"), tmp_path)


def test_an_archive_that_is_none_or_damaged_or_another(server: Server, tmp_path: Path) -> None:
    whole = zipped({"VG/1.jpg": b"one" * 1000})
    damaged = whole.replace(b"oneone", b"oneTwo", 1)
    for name, content, message in (
        ("a.zip", b"<html>not found</html>", "is damaged"),
        ("b.zip", damaged, "is damaged"),
        ("c.zip", zipped({"other/1.jpg": b"one"}), "holds no folder VG"),
    ):
        with pytest.raises(CondsimError, match=message):
            fetch(remote(server, name, content, place="VG"), tmp_path)
        assert not (tmp_path / "VG").exists()
        assert leftovers(tmp_path) == []


@given(
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
    place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans(),
)  # fmt: skip
def test_any_damage_is_one_message(tmp_path: Path, method: int, place: float, byte: int, cut: bool) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for i in range(3):
            made.writestr(f"VG/{i}.jpg", bytes((7 * i + j * j) % 40 for j in range(300)))
    data = bytearray(buffer.getvalue())
    at = int(place * len(data))
    data[at : at + 1] = b"" if cut else bytes([byte])
    archive, target = tmp_path / "vg.part", tmp_path / "VG"
    archive.write_bytes(data)
    with suppress(CondsimError):  # or it was damaged where nothing is read
        _unpack(archive, target)
        shutil.rmtree(target)
    assert [path.name for path in tmp_path.iterdir()] == ["vg.part"]


def test_a_full_disk_is_no_damage(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for = remote(server, "vg.zip", zipped({"VG/1.jpg": b"x"}), place="VG")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(zipfile.ZipFile, "extract", full)
        with pytest.raises(CondsimError, match=r"cannot be written: .*No space left"):
            fetch(asked_for, tmp_path)
    assert len(list(fetch(asked_for, tmp_path).iterdir())) == 1
    assert len(server.requests) == 1, "the archive was kept"


def test_an_interrupted_unpacking_leaves_no_half_folder(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for = remote(server, "vg.zip", zipped({f"VG/{i}.jpg": b"x" for i in range(9)}), place="VG")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(zipfile.ZipFile, "extract", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(asked_for, tmp_path)
    assert not (tmp_path / "VG").exists()
    assert len(list(fetch(asked_for, tmp_path).iterdir())) == 9
    assert len(server.requests) == 1, "the archive was kept"


def test_an_archive_that_unpacks_to_too_much_is_refused_and_removed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("VG/1.jpg", bytes(20_000_000))
    bomb = remote(server, "vg.zip", buffer.getvalue(), place="VG")
    with pytest.raises(
        CondsimError, match=r"unpack to 20,000,000, [\d,]+ times as many \(at most 50 times and 200,0"
    ) as bad:
        fetch(bomb, tmp_path)
    assert "It is removed" in str(bad.value)
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "VG").exists()
    monkeypatch.setattr(downloading, "MAX_UNPACKED", 100)
    with pytest.raises(CondsimError, match=r"at most 50 times and 100 bytes"):
        fetch(remote(server, "b.zip", zipped({"VG/1.jpg": b"x" * 101}), place="VG"), tmp_path)
    fetch(remote(server, "c.zip", zipped({"VG/1.jpg": b"x" * 100}), place="VG"), tmp_path)


def test_an_archive_needs_room_before_it_is_unpacked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for = remote(server, "vg.zip", zipped({"VG/1.jpg": b"x" * 1000}), place="VG")
    with monkeypatch.context() as context:
        context.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10_000, 9_001, 999))  # type: ignore[attr-defined]
        with pytest.raises(CondsimError, match=r"1,000 bytes are needed to unpack it, 999 are free"):
            fetch(asked_for, tmp_path)
    fetch(asked_for, tmp_path)
    assert len(server.requests) == 1, "the archive was kept"


@pytest.mark.parametrize("members", [{f"VG/{'x' * 300}": b""}, {"VG/a": b"", "VG/a/b": b""}])
def test_an_archive_whose_names_cannot_be_written_is_removed(
    server: Server, tmp_path: Path, members: dict[str, bytes]
) -> None:
    with pytest.raises(CondsimError, match=r"is damaged: .*it is removed"):
        fetch(remote(server, "vg.zip", zipped(members), place="VG"), tmp_path)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("planted", ["x/.a.json.part", ".download.lock"])
def test_a_planted_link_is_not_followed(server: Server, tmp_path: Path, planted: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    link = tmp_path / "data" / planted
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(precious)
    assert fetch(remote(server), tmp_path / "data").read_bytes() == BODY
    assert precious.read_text() == "precious"
    assert not (tmp_path / "data" / "x" / "a.json").is_symlink()


def test_a_planted_folder_is_not_unpacked_into(server: Server, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".VG.unpacking").symlink_to(tmp_path / "elsewhere")
    fetch(remote(server, "vg.zip", zipped({"VG/1.jpg": b"one"}), place="VG"), tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("url", ["http://example.org/a.json", "ftp://example.org/a.json", "file:///etc/passwd"])
def test_only_https_is_fetched(tmp_path: Path, url: str) -> None:
    with pytest.raises(CondsimError, match="is not an https address"):
        fetch(Remote(url, "a.json"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_to_http_is_not_followed(server: Server, tmp_path: Path) -> None:
    server.redirect = "http://example.org/a.json"
    with pytest.raises(CondsimError, match=r"http://example\.org/a\.json is not an https address"):
        fetch(remote(server), tmp_path)
    assert not (tmp_path / "x/a.json").exists()


def test_the_command(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = (
        Source("templates", "https://home", "CC BY-NC 4.0", (remote(server),)),
        Source("extra", "https://home", "MIT", (remote(server, "extra.json"),), wanted=False),
        Source("images", "https://ask.there", "by agreement"),
    )
    monkeypatch.setattr(downloading, "SOURCES", {"genecis": parts})
    monkeypatch.setattr(download_command, "SOURCES", {"genecis": parts})
    settings = {"benchmark": {"name": "genecis"}, "folder": str(tmp_path), "parts": None}
    assert command(settings) == 0
    output = capsys.readouterr().out
    assert "CC BY-NC 4.0" in output
    assert "Download by hand: images from https://ask.there (by agreement)" in output
    assert f"condsim check benchmark=genecis benchmark.templates={tmp_path}/genecis" in output
    assert not (tmp_path / "x" / "extra.json").exists()
    command(settings | {"parts": ["extra"]})
    assert (tmp_path / "x" / "extra.json").exists()
    with pytest.raises(CondsimError, match=r"no part 'template' to fetch. Did you mean 'templates'"):
        command(settings | {"parts": ["template"]})
    with pytest.raises(CondsimError, match="no file of benchmark shapes may be fetched"):
        choose("shapes", None)


def instre_archive() -> bytes:
    queries = np.empty((1, 1), dtype=[("ok", object), ("bbx", object)])
    queries[0, 0] = np.array([[1]]), np.array([[1.0, 2.0, 3.0, 1.0]])
    names = {key: np.array([[np.array(["INSTRE-S1/a.jpg"])]], dtype=object) for key in ("imlist", "qimlist")}
    truth = io.BytesIO()
    savemat(truth, {**names, "gnd": queries})  # type: ignore[arg-type]
    return zipped({"test_script/gnd_instre.mat": truth.getvalue(), "test_script/readme.txt": b"x"})


@pytest.mark.parametrize("name", ["instre", "gldv2", "lasco"])
def test_lists_land_where_the_loader_looks(server: Server, tmp_path: Path, name: str) -> None:
    image = [42, "val2014/COCO_val2014_000000000042.jpg"]
    query = {"qid": 1, "query-image": image, "query-text": "red", "target-image": image}
    contents = {
        "index.csv": b"id\n" + 16 * b"a",
        "retrieval_solution_v2.1.csv": b"id,images,Usage\n" + 16 * b"b" + b"," + 16 * b"a" + b",Public\n",
        "lasco_val.json": json.dumps([query]).encode(),
        "lasco_val_corpus.json": json.dumps([{"id": 42, "path": f"val/{image[1]}"}]).encode(),
        "test_script.zip": instre_archive(),
    }
    for source in choose(name, None):
        for published in source.remotes:
            file = published.url.rpartition("/")[2]
            server.files[file] = contents[file]
            fetch(replace(published, url=f"{server.url}/{file}"), tmp_path)
    loader = get_method(f"condsim.datasets.{'revisited' if name == 'instre' else name}.load")
    dataset = {"dataset": "instre"} if name == "instre" else {}
    (task,) = loader(annotations=str(tmp_path / OPTIONS[name]["annotations"]), **dataset).tasks
    assert (task.benchmark, len(task), len(task.gallery_rows)) == (name, 1, 1)


def test_the_published_sources() -> None:
    for parts in SOURCES.values():
        for source in parts:
            assert source.licence
            for file in source.remotes:
                assert file.url.startswith("https://")
                assert file.unpack == file.url.endswith(".zip")
                assert file.checksum is None or len(file.checksum) in (len("sha256:") + 64, len("md5:") + 32)
    assert {source.name for source in choose("genecis", None)} == {"templates", "visual_genome", "coco"}
    config = compose_config("download", ["benchmark=cirr", "parts=[annotations]"])
    assert [source.name for source in choose(config.benchmark.name, list(config.parts))] == ["annotations"]
