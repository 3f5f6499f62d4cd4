"""Policies from a folder: taken up as they change, all of one moment, and never lost to a slip of the keyboard."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from mounted_folder import MountedFolder

from windlass.contract import RetrainPolicy
from windlass.local.retraining.policies import Policies, PolicyFolder

OWN = {"flights": RetrainPolicy(), "taxis": RetrainPolicy(per_day=9)}


def document(workload: str, cooldown: str, generation: int = 1, name: str = "") -> str:
    return (
        f"kind: RetrainPolicy\nmetadata: {{name: {name or workload}, generation: {generation}}}\n"
        f"spec: {{workload: {workload}, cooldown: {cooldown}}}\n"
    )


@pytest.fixture
def mounted(tmp_path: Path) -> MountedFolder:
    return MountedFolder(tmp_path / "policies")


class Watcher:
    """Policies over a folder, with what was put in force and said."""

    def __init__(self, folder: Path, named: frozenset[str] = frozenset()) -> None:
        self.put: list[tuple[str, RetrainPolicy]] = []
        self.said: list[str] = []
        source = PolicyFolder(folder, self.said.append)
        self.policies = Policies(
            OWN, named, source, lambda name, policy: self.put.append((name, policy)), self.said.append
        )

    def cooldown(self) -> timedelta:
        self.policies.refresh()
        found = [policy for name, policy in self.put if name == "flights"]
        return found[-1].cooldown if found else OWN["flights"].cooldown


def test_a_published_policy_goes_before_the_workloads_own_and_gives_way_when_it_is_deleted(
    mounted: MountedFolder,
) -> None:
    watcher = Watcher(mounted.folder)
    assert watcher.cooldown() == timedelta(days=30)
    mounted.put({"f.yaml": document("flights", "1h", 4, "f")})
    assert watcher.cooldown() == timedelta(hours=1)
    assert watcher.policies.said()["policies"] == {
        "flights": {"source": "f.yaml", "name": "f", "generation": 4},
        "taxis": {"source": "workload", "name": None, "generation": None},
    }
    mounted.put({"f.yaml": document("flights", "2h", 5, "f")})
    assert watcher.cooldown() == timedelta(hours=2)
    mounted.put({})
    assert watcher.cooldown() == timedelta(days=30)
    assert watcher.put[-1] == ("flights", OWN["flights"])
    assert watcher.said == [
        "flights: the policy is now that of f.yaml",
        "flights: the policy is now that of f.yaml",
        "flights: the policy is now that of the workload",
    ]


def test_what_did_not_change_is_not_put_again(mounted: MountedFolder) -> None:
    watcher = Watcher(mounted.folder)
    mounted.put({"f.yaml": document("flights", "1h")})
    for _ in range(3):
        watcher.cooldown()
    # another generation of the same policy: only who asks hears of it
    mounted.put({"f.yaml": document("flights", "1h", 2)})
    watcher.cooldown()
    assert len(watcher.put) == 1
    assert watcher.policies.said()["policies"]["flights"]["generation"] == 2


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        pytest.param(document("flights", "soon"), "spec.cooldown = 'soon'", id="cannot-be-meant"),
        pytest.param("kind: [", "f.yaml is no YAML", id="torn"),
        pytest.param("", "must be a mapping", id="empty"),
        pytest.param("kind: Release\n", "kind = 'Release'", id="another-kind"),
    ],
)
def test_a_broken_file_keeps_the_last_good_one_and_says_so_once(
    mounted: MountedFolder, broken: str, said: str
) -> None:
    watcher = Watcher(mounted.folder)
    mounted.put({"f.yaml": document("flights", "1h", 4)})
    watcher.cooldown()
    mounted.put({"f.yaml": broken})
    for _ in range(3):
        assert watcher.cooldown() == timedelta(hours=1)
    complaints = [s for s in watcher.said if said in s]
    assert len(complaints) == 1 and "stays in force" in complaints[0]
    assert said in watcher.policies.said()["problems"]["f.yaml"]
    assert watcher.policies.said()["policies"]["flights"]["generation"] == 4
    mounted.put({"f.yaml": document("flights", "3h", 6)})
    assert watcher.cooldown() == timedelta(hours=3)
    assert watcher.policies.said()["problems"] == {}


def test_a_file_that_was_never_good_leaves_the_workloads_own(mounted: MountedFolder) -> None:
    watcher = Watcher(mounted.folder)
    mounted.put({"f.yaml": document("flights", "soon")})
    assert watcher.cooldown() == timedelta(days=30)
    assert "the workload's own policy is in force" in watcher.said[0]


def test_a_broken_file_that_is_deleted_takes_the_last_good_one_with_it(mounted: MountedFolder) -> None:
    watcher = Watcher(mounted.folder)
    mounted.put({"f.yaml": document("flights", "1h")})
    watcher.cooldown()
    mounted.put({"f.yaml": "kind: ["})
    watcher.cooldown()
    mounted.put({})
    assert watcher.cooldown() == timedelta(days=30)
    assert watcher.policies.said()["problems"] == {}


def test_of_two_files_about_a_workload_the_first_holds(mounted: MountedFolder) -> None:
    watcher = Watcher(mounted.folder)
    mounted.put({"a.yaml": document("flights", "1h"), "b.yaml": document("flights", "2h")})
    assert watcher.cooldown() == timedelta(hours=1)
    assert "has a policy in a.yaml already" in watcher.policies.said()["problems"]["b.yaml"]


def test_a_policy_of_nobodys_workload_is_said_once(mounted: MountedFolder) -> None:
    watcher = Watcher(mounted.folder)
    mounted.put({"x.yaml": document("nobody", "1h")})
    for _ in range(3):
        watcher.cooldown()
    assert watcher.said == ["policy x.yaml is about nobody, which is not watched here"]
    assert watcher.policies.said()["unwatched"] == ["nobody"]


def test_a_policy_that_was_named_at_the_start_is_not_changed(mounted: MountedFolder) -> None:
    watcher = Watcher(mounted.folder, frozenset({"flights"}))
    mounted.put({"f.yaml": document("flights", "1h"), "t.yaml": document("taxis", "1h")})
    watcher.policies.refresh()
    assert [name for name, _ in watcher.put] == ["taxis"]


def test_a_folder_that_comes_later_is_read_then(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path / "later")
    assert watcher.cooldown() == timedelta(days=30) and watcher.said == []
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "f.yaml").write_text(document("flights", "1h"))
    assert watcher.cooldown() == timedelta(hours=1)


def test_what_cannot_be_read_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """Verify a volume that fails: not taken for one whose policies were all deleted."""
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "f.yaml").write_text(document("flights", "1h"))
    watcher = Watcher(folder)
    assert watcher.cooldown() == timedelta(hours=1)
    (folder / "f.yaml").unlink()
    # reading it fails with an error that is none of absence
    (folder / "f.yaml").symlink_to(f"/proc/{os.getpid()}/mem")
    assert watcher.cooldown() == timedelta(hours=1)
    assert [s for s in watcher.said if "what was read before stays in force" in s]
