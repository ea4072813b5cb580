"""The import root `condsim` has no folder of its own: it must work from the repository, editable, and from a wheel."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hugging_face_datasets_is_not_shadowed_from_the_repository_root() -> None:
    code = "import datasets, condsim.datasets; print(datasets.Dataset.from_dict({'a': [1]})[0], datasets.__file__)"
    shown = run(sys.executable, "-c", code, cwd=ROOT)
    assert shown.startswith("{'a': 1}")
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_configs_compose_from_the_editable_install_in_another_folder(tmp_path: Path) -> None:
    shown = run(Path(sys.executable).with_name("condsim"), "bench", "--cfg", "job", "method=clay", cwd=tmp_path)
    assert "_target_: condsim.methods.clay" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def wheel_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it, and the dependencies of this one but not its editable install."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    run(sys.executable, *build, cwd=folder)
    (wheel,) = folder.glob("condsim-*.whl")
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=folder)
    python = environment / "bin" / "python"
    install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, *install, cwd=folder)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A path line is only a place to look: the .pth files there, the editable install's among them, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def test_configs_compose_from_the_wheel_and_its_console_script(wheel_environment: Path, tmp_path: Path) -> None:
    where = run(wheel_environment / "bin/python", "-c", "import condsim.harness as h; print(h.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(wheel_environment)
    shown = run(wheel_environment / "bin/condsim", "bench", "--cfg", "job", "method=clay", cwd=tmp_path)
    assert "_target_: condsim.methods.clay" in shown
    assert "bench" in run(wheel_environment / "bin/condsim", "--help", cwd=tmp_path)


def test_the_wheel_holds_what_the_repository_ships(wheel_environment: Path) -> None:
    code = (
        "from importlib.resources import files\n"
        "backbone = files('condsim.datasets.shapes.backbone')\n"
        "print((backbone / 'shapes-clip.json').is_file(), (backbone / 'shapes-clip.safetensors').is_file())\n"
        "print((files('condsim.methods.phrases') / 'lexicon.yaml').is_file())\n"
    )
    shown = run(wheel_environment / "bin/python", "-c", code, cwd=wheel_environment)
    assert shown.split() == ["True", "True", "True"]


def test_every_package_of_the_repository_is_in_the_wheel(wheel_environment: Path) -> None:
    """A folder forgotten in pyproject.toml would be missing only for those who install the wheel."""
    packages = Path(next((wheel_environment / "lib").iterdir())) / "site-packages" / "condsim"
    for part in ("harness", "methods", "datasets", "conf", "results/reference"):
        tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", part, cwd=ROOT).splitlines()
        missing = [name for name in tracked if not (packages / name).exists()]
        assert missing == []
