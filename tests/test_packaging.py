"""What a release holds: what its tests read and nothing else; a README without dead links."""

import email
import re
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import vijax as vx

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = ("vijax", "tests", "docs", "notebooks", "benchmarks")
FILES = (
    "Makefile hatch_build.py README.md CHANGELOG.md CONTRIBUTING.md LICENSE CITATION.cff "
    "pyproject.toml"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The names in the sdist and in the wheel, and the metadata of the wheel."""
    sdist = pytest.importorskip("hatchling.builders.sdist").SdistBuilder
    wheel = pytest.importorskip("hatchling.builders.wheel").WheelBuilder
    out = str(tmp_path_factory.mktemp("dist"))
    (tar,) = sdist(str(ROOT)).build(directory=out)
    (whl,) = wheel(str(ROOT)).build(directory=out)
    with tarfile.open(tar) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(whl) as archive:
        package = set(archive.namelist())
        (name,) = (name for name in package if name.endswith("METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    return source, package, metadata


def own(folder):
    """The files below a folder that a release should have: those that git does not ignore."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    hidden = re.compile(r"(^|/)(__pycache__|\.\w+)")
    names = {name for p in paths if not hidden.search(name := p.relative_to(ROOT).as_posix())}
    if not (ROOT / ".git").exists():  # in an sdist
        return names
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder]
    known = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return names & set(known.splitlines())


def test_the_sdist_has_what_its_tests_read(built):
    source, _, _ = built
    expected = set(FILES.split()).union(*map(own, FOLDERS))
    assert expected - source == set()
    assert source - expected <= {"PKG-INFO", ".gitignore"}


def test_the_wheel_has_the_package_alone(built):
    _, package, _ = built
    inside = {name for name in package if not name.startswith(f"vijax-{vx.__version__}.dist-info/")}
    assert inside == own("vijax")
    assert {"vijax/py.typed", "vijax/references.bib"} < inside
    assert f"vijax-{vx.__version__}.dist-info/licenses/LICENSE" in package


def test_metadata(built):
    _, _, metadata = built
    assert metadata["Version"] == vx.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    text = metadata.get_payload()
    assert text.startswith("# vijax")
    links = re.findall(r"\]\((.*?)\)", text)
    assert all(link.startswith(("https://", "http://", "#")) for link in links), links
    assert "A first fit" in text
    assert len(text) > 0.7 * len((ROOT / "README.md").read_text())


def test_extras_are_for_code_that_is_there():
    """Each extra names a package that some module imports, or a build of jax."""
    text = "\n".join(path.read_text() for path in (ROOT / "vijax").rglob("*.py"))
    for name, needs in PROJECT["optional-dependencies"].items():
        for need in needs:
            package = re.match(r"[\w-]+", need)[0].replace("scikit-learn", "sklearn")
            package = package.replace("-", "_")
            imported = re.search(rf"(import|from|import_module\(\W*)\W*{package}\b", text)
            assert package == "jax" or imported, (name, package)


def test_dependencies_are_imported_and_declared():
    declared = {re.match(r"[\w-]+", need)[0] for need in PROJECT["dependencies"]}
    text = "\n".join(path.read_text() for path in (ROOT / "vijax").rglob("*.py"))
    for package in declared:
        assert re.search(rf"^\s*(?:from|import) {package}\b", text, re.MULTILINE), package
    assert declared == {"jax", "jaxtyping", "numpy", "scipy"}
