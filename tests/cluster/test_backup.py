"""What a namespace had is destroyed on a real API server, and comes back from a backup: to the byte, and alive."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.release.backend import RejectedError, UnreachableError
from serving.release.cluster import naming
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.kinds import (
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    RELEASE,
    RELEASE_JOURNAL,
    RETRAIN_POLICY,
    Kind,
)
from serving.release.cluster.store import ClusterStore
from serving.release.journal.store import Entry
from tests.cluster import operator_stage as stage
from tests.cluster.api_server import ApiServer, established, rights_in_force
from tests.cluster.operator_stage import Controllers, Operator, Traffic, eventually
from tests.cluster.tools.build import BUILD_S
from windlass.backup import cluster, taking
from windlass.backup.cluster import Exported
from windlass.cli import app
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

pytestmark = [pytest.mark.timeout(2 * BUILD_S)]

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 1, 1, tzinfo=UTC)
SAMPLES = ROOT / "manifests" / "samples"
KINDS = (RELEASE_JOURNAL, RETRAIN_POLICY, INFERENCE_SERVICE, HTTP_ROUTE, RELEASE)


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    stage.install(api_server)
    return api_server


@pytest.fixture
def api(server: ApiServer) -> KubernetesApi:
    return KubernetesApi.connect(server.kubeconfig)


@pytest.fixture
def place(server: ApiServer, request: pytest.FixtureRequest) -> str:
    name = re.sub("[^a-z]+", "-", request.node.name.removeprefix("test_")).strip("-")
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return str(name)


def objects(api: KubernetesApi, place: str) -> dict[str, dict[str, Any]]:
    """Everything in the namespace that a backup holds: kind/name -> object."""
    return {f"{kind.kind}/{o['metadata']['name']}": o for kind in KINDS for o in api.all(kind, place).items}


def destroy(api: KubernetesApi, place: str) -> None:
    """Whoever deletes a namespace by force: finalizers ask nobody."""
    for kind in KINDS:
        for found in api.all(kind, place, metadata_only=True).items:
            name = found["metadata"]["name"]
            api.delete(kind, place, name)
            if found["metadata"].get("finalizers"):
                api.patch(kind, place, name, [{"op": "remove", "path": "/metadata/finalizers"}])
    assert objects(api, place) == {}


def windlass(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What a command says; it ends well."""
    code = app.run([str(word) for word in (*words, "--json")])
    said = capsys.readouterr()
    assert code == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def refused(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> str:
    code = app.run([str(word) for word in words])
    said = capsys.readouterr()
    assert code == 2, said
    return said.err


def without_counts(found: dict[str, Any]) -> dict[str, Any]:
    """A status without what means one API server's object."""
    text = json.dumps(found)
    plain: dict[str, Any] = json.loads(
        text, object_hook=lambda d: {k: v for k, v in d.items() if k != "observedGeneration"}
    )
    return plain


def apply(server: ApiServer, place: str, sample: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((SAMPLES / sample).read_text())
    document["metadata"]["namespace"] = place
    server.kubectl("apply", "-n", place, "-f", "-", given=json.dumps(document))
    return document


def test_a_release_that_only_an_older_version_took_comes_back_as_a_restore_says(tmp_path: Path) -> None:
    """Verify that nothing is written before, and that with the definitions of its time it is there and goes on."""
    older = tmp_path / "crds"
    older.mkdir()
    for path in (ROOT / "manifests" / "crds").glob("*.yaml"):
        definition = yaml.safe_load(path.read_text())
        rules = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        if path.stem == "releases":
            kept = [
                r for r in rules["x-kubernetes-validations"] if "two weights without" not in json.dumps(r)
            ]
            assert len(kept) < len(rules["x-kubernetes-validations"])
            rules["x-kubernetes-validations"] = kept
        (older / path.name).write_text(json.dumps(definition))
    place, name = "default", "flights-13"
    spec = yaml.safe_load((SAMPLES / "release-canary-gateway.yaml").read_text())["spec"]
    del spec["gateway"]
    checks = [
        {"name": "slow", "kind": "guardrail", "metric": "latencyP99", "source": "prometheus", "bound": "50ms"}
    ]
    spec |= {"backend": "kserve", "strategy": {"type": "blueGreen", "minSamples": 500}, "checks": checks}
    status = {"phase": "Promoted", "champion": "12", "observedGeneration": 1}
    release = {"metadata": {"name": name, "generation": 1}, "spec": spec, "status": status}
    (tmp_path / "backup" / "releases").mkdir(parents=True)
    (tmp_path / "backup" / "releases" / f"{name}.json").write_text(json.dumps(release))
    with ApiServer(tmp_path / "server") as own:
        own.kubectl("apply", "--server-side", "-f", ROOT / "manifests" / "crds")
        established(own)
        api = KubernetesApi.connect(own.kubeconfig)
        with pytest.raises(
            UsageError, match=r"1 objects .* Release default/flights-13: .*backend kserve"
        ) as said:
            cluster.restore(api, place, tmp_path / "backup")
        assert "nothing was written" in str(said.value) and "manifests/crds" in str(said.value)
        assert not api.all(RELEASE, place).items
        own.kubectl("apply", "--server-side", "-f", older)
        eventually(
            lambda: bool(_restored(api, place, tmp_path / "backup")), "the older definition is in force"
        )
        own.kubectl("apply", "--server-side", "-f", ROOT / "manifests" / "crds")
        (found,) = api.all(RELEASE, place).items
        assert found["spec"]["strategy"]["type"] == "blueGreen" and found["status"]["phase"] == "Promoted"

        def refused_anew() -> bool:
            try:
                api.create(RELEASE, place, {"metadata": {"name": "another"}, "spec": spec}, dry_run=True)
            except RejectedError:
                return True
            return False

        eventually(refused_anew, "today's definition is in force")
        api.apply(RELEASE, place, name, {"status": {**status, "message": "goes on"}}, subresource="status")
        api.patch(RELEASE, place, name, [{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}])


def _restored(api: KubernetesApi, place: str, folder: Path) -> bool:
    """Whether it was put back; an API server holds to a changed definition a moment later."""
    try:
        return cluster.restore(api, place, folder).created == {"Release": 1}
    except UsageError:
        return False


class TestObjects:
    """Objects that nobody acts on meanwhile."""

    @pytest.fixture
    def filled(self, server: ApiServer, api: KubernetesApi, place: str) -> str:
        store = ClusterStore(api, place, "one")
        for number, name in enumerate(("flights-12", "flights-13"), 1):
            entry = Entry("flights", number, name)
            store.append(
                entry, {"kind": "release", "champion": "11", "note": "\u00e9\u2028\\ \"quoted\" '{'"}
            )
            for seq in range(1, 30):
                store.append(entry, {"kind": "decision", "seq": seq, "value": 0.1 + 0.2, "why": "x" * 9_000})
        store.append(entry, {"kind": "decision", "seq": 30, "text": "y" * 400_000})
        store.append(entry, {"kind": "decision", "seq": 31})
        store.enqueue("flights", "flights-14", {"kind": "Release", "n": 14}, AT)
        apply(server, place, "retrainpolicy-full.yaml")
        release = apply(server, place, "release-canary-gateway.yaml")
        name = release["metadata"]["name"]
        status = {"phase": "Progressing", "step": 1, "champion": "12", "observedGeneration": 1}
        api.apply(RELEASE, place, name, {"status": status}, subresource="status")
        api.patch(
            RELEASE,
            place,
            name,
            [{"op": "add", "path": "/metadata/finalizers", "value": ["windlass.dev/traffic"]}],
        )
        return place

    def test_all_of_it_comes_back(
        self,
        server: ApiServer,
        api: KubernetesApi,
        filled: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Verify that specs are the same to the byte, statuses mean the new objects, and once is enough."""
        route = {
            "metadata": {"labels": naming.MANAGED_BY, "annotations": {"windlass.dev/champion": "12"}},
            "spec": {
                "parentRefs": [{"name": "windlass"}],
                "rules": [{"backendRefs": [{"name": "a", "port": 80}]}],
            },
        }
        api.apply(HTTP_ROUTE, filled, "windlass-flights", route)
        before = objects(api, filled)
        assert sum(key.startswith("ReleaseJournal/") for key in before) > 8
        file = tmp_path / "b.tar.gz"
        samples = ("-f", SAMPLES / "backup" / "backup.yaml", "-f", SAMPLES / "backup" / "restore.yaml")
        server.kubectl("apply", "-n", filled, "--validate=strict", *samples)
        rights_in_force(server, filled)
        # with the rights that the samples give, and no others
        where, there = (
            ("--kubeconfig", server.kubeconfig_for_service_account(filled, f"windlass-{act}"))
            for act in ("backup", "restore")
        )
        taken = windlass("backup", file, "--cluster", "--namespace", filled, *where, capsys=capsys)
        assert (taken["objects"], taken["files"]) == (len(before), 0)
        assert objects(api, filled) == before, "a backup changes nothing"
        destroy(api, filled)

        put = windlass("restore", file, "--cluster", *there, capsys=capsys)
        assert put["namespace"] == filled and sum(put["created"].values()) == len(before)
        after = objects(api, filled)
        assert {k: json.dumps(o["spec"]) for k, o in after.items()} == {
            k: json.dumps(o["spec"]) for k, o in before.items()
        }
        for key in ("labels", "annotations", "finalizers"):
            assert {k: o["metadata"].get(key) for k, o in after.items()} == {
                k: o["metadata"].get(key) for k, o in before.items()
            }
        assert not {o["metadata"]["uid"] for o in after.values()} & {
            o["metadata"]["uid"] for o in before.values()
        }
        release = next(o for k, o in after.items() if k.startswith("Release/"))
        assert release["status"]["phase"] == "Progressing"
        assert release["status"]["observedGeneration"] == release["metadata"]["generation"]
        store = ClusterStore(api, filled, "two")
        assert [entry.name for entry in store.entries("flights")] == ["flights-12", "flights-13"]
        assert [r.get("seq") for r in store.records(Entry("flights", 2, "flights-13"))] == [
            None,
            *range(1, 32),
        ]
        assert store.queued("flights") == [("flights-14", {"kind": "Release", "n": 14})]

    @pytest.mark.parametrize("sample", ["backup", "restore"])
    def test_the_samples_pods_are_restricted(self, server: ApiServer, place: str, sample: str) -> None:
        """Verify that Pod Security lets the pods of both samples into a namespace of its strictest level."""
        server.kubectl("label", "namespace", place, "pod-security.kubernetes.io/enforce=restricted")
        documents = list(yaml.safe_load_all((SAMPLES / "backup" / f"{sample}.yaml").read_text()))
        (job,) = (d for d in documents if d["kind"] in ("Job", "CronJob"))
        template = job["spec"].get("jobTemplate", job)["spec"]["template"]
        server.kubectl("create", "serviceaccount", f"windlass-{sample}", "-n", place)
        pod = {"metadata": {"name": sample, **template["metadata"]}, "spec": template["spec"]}
        path = f"/api/v1/namespaces/{place}/pods?fieldValidation=Strict&dryRun=All"
        assert server.request("POST", path, pod)["kind"] == "Pod"

    def test_one_that_broke_off_is_completed(
        self,
        server: ApiServer,
        api: KubernetesApi,
        filled: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Verify that what stands there as in the backup is left alone, and what is missing is made."""
        file, where = tmp_path / "b.tar.gz", ("--kubeconfig", server.kubeconfig)
        windlass("backup", file, "--cluster", "--namespace", filled, *where, capsys=capsys)
        before = objects(api, filled)
        gone = [key for key in before if key.startswith("ReleaseJournal/")][2:5]
        for key in gone:
            api.delete(RELEASE_JOURNAL, filled, key.partition("/")[2])
        # a GitOps controller was faster, and knows no status
        name = next(key.partition("/")[2] for key in before if key.startswith("Release/"))
        api.patch(RELEASE, filled, name, [{"op": "remove", "path": "/metadata/finalizers"}])
        api.delete(RELEASE, filled, name)
        apply(server, filled, "release-canary-gateway.yaml")

        put = windlass("restore", file, "--cluster", *where, capsys=capsys)
        assert put["created"] == {"ReleaseJournal": len(gone)}
        after = objects(api, filled)
        assert {k: o["spec"] for k, o in after.items()} == {k: o["spec"] for k, o in before.items()}
        assert after[f"Release/{name}"]["status"]["phase"] == "Progressing"
        again = windlass("restore", file, "--cluster", *where, capsys=capsys)
        assert again["created"] == {} and objects(api, filled) == after

    def test_a_deletion_that_was_not_done_is_gone_on_with(
        self,
        server: ApiServer,
        api: KubernetesApi,
        filled: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Verify that a Release which waits for its traffic to go back is not alive again after a restore."""
        file, where = tmp_path / "b.tar.gz", ("--kubeconfig", server.kubeconfig)
        name = next(key.partition("/")[2] for key in objects(api, filled) if key.startswith("Release/"))
        api.delete(RELEASE, filled, name)
        assert "deletionTimestamp" in objects(api, filled)[f"Release/{name}"]["metadata"], "it is held"
        windlass("backup", file, "--cluster", "--namespace", filled, *where, capsys=capsys)
        destroy(api, filled)
        windlass("restore", file, "--cluster", *where, capsys=capsys)
        found = objects(api, filled)[f"Release/{name}"]
        assert "deletionTimestamp" in found["metadata"] and found["status"]["phase"] == "Progressing"
        assert found["metadata"]["finalizers"] == ["windlass.dev/traffic"]

    def test_half_a_journal_is_noticed(
        self,
        server: ApiServer,
        api: KubernetesApi,
        filled: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Verify of a restore that broke off after each object: journals are whole, or who goes on is told that they
        are not."""
        file, where = tmp_path / "b.tar.gz", ("--kubeconfig", server.kubeconfig)
        windlass("backup", file, "--cluster", "--namespace", filled, *where, capsys=capsys)
        before = objects(api, filled)
        store = ClusterStore(api, filled, None)
        whole = {entry: list(store.records(entry)) for entry in store.entries("flights")}
        destroy(api, filled)
        create, left = KubernetesApi.create, [0]

        def breaking(self: KubernetesApi, kind: Kind, *more: Any, **named: Any) -> Any:
            if kind == RELEASE_JOURNAL and not left[0]:
                raise UnreachableError("the API server is gone")
            left[0] -= not named.get("dry_run")
            return create(self, kind, *more, **named)

        lacking = 0
        for _ in range(sum(key.startswith("ReleaseJournal/") for key in before) - 1):
            with monkeypatch.context() as broken:
                left[0] = 1
                broken.setattr(KubernetesApi, "create", breaking)
                assert app.run(["restore", str(file), "--cluster", *map(str, where)]) == 1
            capsys.readouterr()
            # as an operator that was started too early
            store = ClusterStore(api, filled, "early")
            try:
                entries = store.entries("flights")
                assert {entry: list(store.records(entry)) for entry in entries} == whole
            except WindlassError as error:
                assert re.search(
                    "lacks its beginning|is missing, and others stand before and after", str(error)
                )
                lacking += 1
        assert lacking > 2
        windlass("restore", file, "--cluster", *where, capsys=capsys)
        store = ClusterStore(api, filled, None)
        assert {entry: list(store.records(entry)) for entry in store.entries("flights")} == whole
        assert set(objects(api, filled)) == set(before)

    @pytest.mark.parametrize("newer", ["journal", "part", "release", "policy"])
    def test_what_is_newer_is_not_overwritten(
        self,
        server: ApiServer,
        api: KubernetesApi,
        filled: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        newer: str,
    ) -> None:
        """Verify that a namespace that went on after the backup is left as it is, and the words name what went on."""
        file, where = tmp_path / "b.tar.gz", ("--kubeconfig", server.kubeconfig)
        windlass("backup", file, "--cluster", "--namespace", filled, *where, capsys=capsys)
        found = objects(api, filled)
        policy, release = (
            next(k for k in found if k.startswith(kind)) for kind in ("RetrainPolicy", "Release/")
        )
        if newer == "journal":
            ClusterStore(api, filled, "two").append(Entry("flights", 2, "flights-13"), {"kind": "decision"})
        elif newer == "part":
            part = {"model": "flights", "release": "flights-15", "number": 3, "records": []}
            api.create(RELEASE_JOURNAL, filled, {"metadata": {"name": "flights.000099"}, "spec": part})
        elif newer == "release":
            name = release.partition("/")[2]
            api.apply(RELEASE, filled, name, {"status": {"phase": "Promoted"}}, subresource="status")
        else:
            change = [{"op": "add", "path": "/spec/cooldown", "value": "99h"}]
            api.patch(RETRAIN_POLICY, filled, policy.partition("/")[2], change)
        # and something is missing beside it
        api.delete(RELEASE_JOURNAL, filled, "flights.000001")
        before = objects(api, filled)
        said = refused("restore", file, "--cluster", *where, capsys=capsys)
        words = {"journal": "releasejournals/flights.", "part": "releasejournals/flights.000099"}
        kind = {"release": "releases/", "policy": "retrainpolicies/"}
        assert words.get(newer, kind.get(newer, "")) in said and "nothing was written" in said
        assert objects(api, filled) == before


def test_a_kind_that_is_not_there_is_told_at_once(
    server: ApiServer,
    api: KubernetesApi,
    place: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Verify that what needs a definition which another cluster lacks is put back whole or not at all."""
    apply(server, place, "retrainpolicy-minimal.yaml")
    found = cluster.export(api, place)
    kettle = {"metadata": {"name": "flights", "labels": naming.MANAGED_BY}, "spec": {}}
    more = Exported(place, {**found.files, "copperpots/flights.json": json.dumps(kettle).encode()})
    file = tmp_path / "b.tar.gz"
    taking.take(Settings(home=tmp_path / "home", project=ROOT), file, AT, exported=more)
    monkeypatch.setattr(
        cluster, "ORDER", (*cluster.ORDER, Kind("example.test", "v1", "copperpots", "CopperPot"))
    )
    destroy(api, place)
    said = refused("restore", file, "--cluster", "--kubeconfig", server.kubeconfig, capsys=capsys)
    assert "1 copperpots" in said and "knows no example.test/v1 CopperPot: nothing was written" in said
    assert objects(api, place) == {}


@pytest.mark.slow
def test_a_live_release_goes_on_after_everything_was_lost(
    server: ApiServer,
    api: KubernetesApi,
    traffic: Traffic,
    prometheus: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Verify that the operator finds what it left, promotes what was half-way, and repeats no step."""
    place, where = "disaster", ("--kubeconfig", server.kubeconfig)
    kubeconfig = stage.namespace(server, place)
    env = {"WINDLASS_PROMETHEUS_URL": prometheus, "WINDLASS_SCRAPE_INTERVAL": "500ms"}
    operator = Operator(kubeconfig, place, tmp_path / "operator.log", **env)
    controllers = Controllers(server, place)
    with contextlib.closing(_Killing(operator)), controllers:
        traffic.controllers.append(controllers)
        operator.start()
        document = stage.release("flights-13", "flights", "13", "12")
        document["spec"]["strategy"]["steps"][1]["minSamples"] = 1_500
        stage.apply(server, place, document)
        eventually(lambda: _status(api, place, "flights-13").get("step") == 2, "half of the traffic")
        with traffic.slowed(1):
            stage.apply(server, place, stage.release("flights-14", "flights", "14", onConflict="queue"))
            eventually(
                lambda: _status(api, place, "flights-14").get("phase") == "Queued", "the next one waits"
            )

            # while all of it goes on
            live = tmp_path / "live.tar.gz"
            windlass("backup", live, "--cluster", "--namespace", place, *where, capsys=capsys)
            said = refused("restore", live, "--cluster", *where, capsys=capsys)
            assert "operator" in said and "--replicas=0" in said
            assert operator.stop() == 0

        file = tmp_path / "b.tar.gz"
        windlass("backup", file, "--cluster", "--namespace", place, *where, capsys=capsys)
        before, decided = objects(api, place), _acts(api, place, "flights-13")
        assert decided == ["start", "advance"], "it is half-way"
        destroy(api, place)
        windlass("restore", file, "--cluster", *where, capsys=capsys)
        after = objects(api, place)
        assert {k: json.dumps(o["spec"]) for k, o in after.items() if k.startswith("ReleaseJournal/")} == {
            k: json.dumps(o["spec"]) for k, o in before.items() if k.startswith("ReleaseJournal/")
        }
        assert set(after) == set(before)
        for key in ("Release/flights-13", "Release/flights-14"):
            assert without_counts(after[key]["status"]) == without_counts(before[key]["status"])

        operator.start()
        try:
            eventually(lambda: _status(api, place, "flights-14").get("phase") == "Promoted", "both are over")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{operator.said()[-3000:]}") from None
        assert _status(api, place, "flights-13")["phase"] == "Promoted"
        assert _acts(api, place, "flights-13") == ["start", "advance", "promote"]
        assert {v for v, weight in controllers.weights["flights"].items() if weight} == {"14"}
        traffic.controllers.remove(controllers)


class _Killing:
    def __init__(self, operator: Operator) -> None:
        self.close = operator.kill


def _status(api: KubernetesApi, place: str, name: str) -> dict[str, Any]:
    found = api.get(RELEASE, place, name)
    return {} if found is None else dict(found.get("status") or {})


def _acts(api: KubernetesApi, place: str, name: str) -> list[str]:
    store = ClusterStore(api, place, None)
    entry = next(entry for entry in store.entries("flights") if entry.name == name)
    return [r["action"] for r in store.records(entry) if r["kind"] == "decision" and r["acts"]]
