"""Custom resources of one namespace as files of a backup, and back onto an API server.

With the journals, the policies and the releases goes what serves for them now (InferenceServices and routes of ours):
for a release that is over the operator would not make it again. Secrets, accounts and the chart's objects stay out;
they come from where they came from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.release.backend import RejectedError
from serving.release.cluster import lease, naming
from serving.release.cluster.api import KubernetesApi, Object
from serving.release.cluster.kinds import (
    ENVOY_EXTENSION_POLICY,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    LEASE,
    RELEASE,
    RELEASE_JOURNAL,
    RETRAIN_POLICY,
    Kind,
)
from windlass.errors import UsageError

#: A namespace has them all, or the definitions are missing.
OURS = (RELEASE_JOURNAL, RETRAIN_POLICY, RELEASE)
#: Of others; which of them a cluster knows depends on what is installed there.
SERVING = (INFERENCE_SERVICE, ENVOY_EXTENSION_POLICY, HTTP_ROUTE)
#: Those whose definitions have rules that a later version may make stricter.
RULED = (RETRAIN_POLICY, RELEASE)
#: The order of both directions: whoever sees a release finds its journal, and what it decides about.
ORDER = (RELEASE_JOURNAL, RETRAIN_POLICY, *SERVING, RELEASE)

_MANAGED = ",".join(f"{key}={value}" for key, value in naming.MANAGED_BY.items())
#: Of `metadata`: what an API server wrote and another one would not take.
_OF_THE_SERVER = ("uid", "resourceVersion", "managedFields", "selfLink")
_KEPT = ("name", "labels", "annotations")


@dataclass(frozen=True)
class Exported:
    """What a namespace had.

    Attributes:
        files: path (`releases/flights-13.json`) -> the object as JSON, without what one API server alone knows.
    """

    namespace: str
    files: Mapping[str, bytes]


def export(api: KubernetesApi, namespace: str) -> Exported:
    """Read the objects; each kind as it was at one moment, journals first.

    Raises:
        RejectedError: the definitions are not installed, or the account may not list them.
        UnreachableError: the API server does not answer.
    """
    files = {}
    for kind in ORDER:
        for found in _all(api, kind, namespace) or ():
            metadata = {k: v for k, v in found["metadata"].items() if k not in _OF_THE_SERVER}
            if kind != RELEASE and "deletionTimestamp" in metadata:
                continue  # a release's deletion is work that may not be done yet
            content = {**found, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
            if kind in SERVING:
                content.pop("status", None)  # its controllers' words about pods that will be others
            path = f"{kind.plural}/{metadata['name']}.json"
            files[path] = json.dumps(content, indent=1, ensure_ascii=False).encode()
    return Exported(namespace, files)


@dataclass(frozen=True)
class Put:
    """What a restore did.

    Attributes:
        created: kind -> how many objects were made.
        there: kind -> how many were there already, as the backup has them.
    """

    created: Mapping[str, int]
    there: Mapping[str, int]


def restore(
    api: KubernetesApi, namespace: str, folder: Path, *, sleep: Callable[[float], None] = time.sleep
) -> Put:
    """Make the objects in `folder` again, which are those of an unpacked backup's `cluster/`.

    Nothing is written unless all of it can be: an operator that works, or an object that says something else than the
    backup, is an error. What stands there as the backup has it is left alone, so the same call again completes one
    that broke off.

    Raises:
        UsageError: an operator works in the namespace, something there is newer than the backup, or the cluster's
            definitions do not take an object of it.
        RejectedError: no such namespace or definition, or no right.
        UnreachableError: the API server does not answer; call it again.
    """
    wanted = {kind: list(_read(folder, kind)) for kind in ORDER}
    holder = _operator(api, namespace, sleep)
    if holder is not None:
        raise UsageError(
            f"operator {holder} works in namespace {namespace}, and would decide about half a backup; end it by "
            f"`kubectl -n {namespace} scale deployment windlass-operator --replicas=0`, restore, and scale it up again"
        )
    live: dict[Kind, dict[str, Object]] = {}
    for kind in ORDER:
        found = _all(api, kind, namespace)
        if found is None and wanted[kind]:
            raise UsageError(
                f"the backup has {len(wanted[kind])} {kind.plural}, and the cluster knows no {kind.api_version} "
                f"{kind.kind}: nothing was written; install what brings its definition, and restore again"
            )
        live[kind] = {o["metadata"]["name"]: o for o in found or ()}
    _refuse_others(namespace, wanted, live)
    _refuse_untaken(api, namespace, wanted, live)
    created: dict[str, int] = {}
    there: dict[str, int] = {}
    for kind in ORDER:
        for document in wanted[kind]:
            same = live[kind].get(document["metadata"]["name"])
            counted = created if same is None else there
            counted[kind.kind] = counted.get(kind.kind, 0) + 1
            _put(api, kind, namespace, document, same)
    return Put(created, there)


def _put(
    api: KubernetesApi, kind: Kind, namespace: str, document: Object, found: Mapping[str, Any] | None
) -> None:
    metadata, name = document["metadata"], document["metadata"]["name"]
    content = _content(document)
    if kind in SERVING:
        if found is None:
            # as the operator itself writes them, so that it may take a field away again
            api.apply(kind, namespace, name, content)
        return
    if kind == RELEASE and "finalizers" in metadata:
        content["metadata"]["finalizers"] = metadata["finalizers"]
    made = api.create(kind, namespace, content) if found is None else found
    status = document.get("status")
    if status and not made.get("status"):
        seen = _seen_now(status, metadata.get("generation"), made["metadata"].get("generation"))
        api.apply(kind, namespace, name, {"status": seen}, subresource="status")
    if "deletionTimestamp" in metadata and "deletionTimestamp" not in made["metadata"]:
        api.delete(kind, namespace, name, uid=made["metadata"]["uid"])


def _content(document: Mapping[str, Any]) -> dict[str, Any]:
    """What is written of an object, but its finalizers and its status."""
    metadata = document["metadata"]
    content: dict[str, Any] = {"metadata": {key: metadata[key] for key in _KEPT if key in metadata}}
    if "spec" in document:
        content["spec"] = document["spec"]
    return content


def _seen_now(status: Any, before: int | None, now: int | None) -> Any:
    """A status whose `observedGeneration` means the object that was made, which counts from 1 again."""
    if isinstance(status, Mapping):
        return {
            key: (now if value == before else 0)
            if key == "observedGeneration"
            else _seen_now(value, before, now)
            for key, value in status.items()
        }
    return [_seen_now(each, before, now) for each in status] if isinstance(status, list) else status


def _refuse_others(
    namespace: str, wanted: Mapping[Kind, Sequence[Object]], live: Mapping[Kind, Mapping[str, Object]]
) -> None:
    """Raise where what stands there is not what the backup says, or is a journal that goes on after it."""
    different = []
    for kind in OURS:
        for document in wanted[kind]:
            found = live[kind].get(document["metadata"]["name"])
            if found is not None and _differs(document, found):
                different.append(f"{kind.plural}/{document['metadata']['name']}")
    names = {document["metadata"]["name"] for document in wanted[RELEASE_JOURNAL]}
    models = {document["spec"]["model"] for document in wanted[RELEASE_JOURNAL]}
    different += [
        f"{RELEASE_JOURNAL.plural}/{name}"
        for name, found in live[RELEASE_JOURNAL].items()
        if name not in names and found["spec"].get("model") in models
    ]
    if different:
        shown = " ".join(different[:5])
        raise UsageError(
            f"namespace {namespace} has {len(different)} objects that are not as in the backup ({shown}"
            f"{' …' if len(different) > 5 else ''}): nothing was written; keep what is there, or save and delete it "
            f"(`kubectl -n {namespace} delete {shown}`) and restore again"
        )


def _refuse_untaken(
    api: KubernetesApi,
    namespace: str,
    wanted: Mapping[Kind, Sequence[Object]],
    live: Mapping[Kind, Mapping[str, Object]],
) -> None:
    """Raise where the definitions that are installed refuse an object of the backup; an older version took it."""
    said = []
    for kind in RULED:
        for document in wanted[kind]:
            if document["metadata"]["name"] in live[kind]:
                continue
            try:
                api.create(kind, namespace, _content(document), dry_run=True)
            except RejectedError as error:
                said.append(str(error))
    if said:
        raise UsageError(
            f"{len(said)} objects of the backup are refused: {'; '.join(said[:5])}{' …' if len(said) > 5 else ''}: "
            "nothing was written. Where definitions have become stricter, put those of the backup's version in force "
            "(`kubectl apply --server-side -f manifests/crds` of it), restore, then those of today again: what is "
            "stored goes on"
        )


def _differs(document: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    # who opened a journal has told nothing yet
    before, now = ({**(each.get("spec") or {}), "writer": None} for each in (document, found))
    if before != now:
        return True
    # one that somebody applied again, and that no operator has seen, has none yet
    before, now = document.get("status") or {}, found.get("status") or {}
    return bool(now) and before.get("phase") != now.get("phase")


def _read(folder: Path, kind: Kind) -> Iterator[Object]:
    """Documents in the order in which they are made."""
    documents = [json.loads(path.read_bytes()) for path in (folder / kind.plural).glob("*.json")]
    documents.sort(key=lambda d: (d["metadata"].get("creationTimestamp", ""), d["metadata"]["name"]))
    yield from _gaping(documents) if kind == RELEASE_JOURNAL else documents


def _gaping(journals: Sequence[Object]) -> Iterator[Object]:
    """Journals, of each chain the newest part, then the oldest, then the rest backwards.

    An operator refuses a chain with a gap, and a journal without its beginning; a beginning without its end it would go
    on with.
    """
    chains: dict[str, list[Object]] = {}
    for document in sorted(journals, key=lambda d: str(d["metadata"]["name"])):
        chains.setdefault(document["spec"]["model"], []).append(document)
    for chain in chains.values():
        waiting = [document for document in chain if "queue" in document["spec"]]
        parts = [document for document in chain if "queue" not in document["spec"]]
        yield from parts[-1:]
        yield from parts[:-1][:1]
        yield from reversed(parts[1:-1])
        yield from waiting


def _all(api: KubernetesApi, kind: Kind, namespace: str) -> Sequence[Object] | None:
    """The namespace's objects; None of a kind of others that this cluster does not know."""
    if kind in OURS:
        return api.all(kind, namespace, limit=50).items
    try:
        return api.all(kind, namespace, labels=_MANAGED).items
    except RejectedError as error:
        if "knows no" in str(error):
            return None
        raise


def _operator(api: KubernetesApi, namespace: str, sleep: Callable[[float], None]) -> str | None:
    """The operator that renews its lease, None where none does; a dead one's is waited out."""
    before: str | None = None
    for _ in range(int(lease.DURATION_S / lease.EVERY_S) + 1):
        found = api.get(LEASE, namespace, lease.NAME)
        holder = None if found is None else (found.get("spec") or {}).get("holderIdentity")
        if found is None or not holder:
            return None
        version = found["metadata"]["resourceVersion"]
        if before is not None and version != before:
            return str(holder)
        before = version
        sleep(lease.EVERY_S)
    return None
