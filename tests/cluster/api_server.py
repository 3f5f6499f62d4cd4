"""A Kubernetes API server of a test's own: etcd and kube-apiserver on loopback, and no node.

What envtest is for Go: CRDs, RBAC, admission and everything that is a client can be tried on it, and each test may
have its own. There is no controller-manager: nobody makes the ServiceAccount `default` of a namespace (so a Pod names
one that the test has made), collects what an owner left, or ends the deletion of a namespace.
"""

from __future__ import annotations

import functools
import itertools
import json
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import etcd_on_loopback, kubeconfigs
from tests.cluster.certificates import Authority, signing_pair
from tests.cluster.etcd_on_loopback import HOST, STARTS, free_port
from tests.cluster.processes import IN_USE, Program
from tests.cluster.tools.build import tool
from windlass.errors import WindlassError

SERVICES = "10.96.0.0/12"
#: The first address of SERVICES: the Service `kubernetes`.
SERVICE_ADDRESS = "10.96.0.1"
ISSUER = "https://kubernetes.default.svc.cluster.local"
#: On a machine that compiles beside it.
READY_S = 180.0
#: What kubeadm enables, and the defaults that we count on, said aloud.
ADMISSION = ("NodeRestriction", "PodSecurity", "ResourceQuota", "LimitRanger", "ServiceAccount")
#: What some clusters enable beside that (OpenShift does): who may not delete an object may not change its owners.
OWNERS_ENFORCED = {"enable-admission-plugins": ",".join((*ADMISSION, "OwnerReferencesPermissionEnforcement"))}


class ApiServer:
    """A running API server with its etcd; a context manager.

    Args:
        folder: where data, certificates, kubeconfigs and logs lie; of this server alone. Logs are left there.
        flags: flags of kube-apiserver, without dashes, that are added or replace ours.
        addresses: further names and addresses that its certificate is for.
    """

    def __init__(
        self, folder: Path, *, flags: Mapping[str, str] | None = None, addresses: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.authority = Authority("kubernetes")
        self._flags = dict(flags or {})
        self._addresses = tuple(addresses)
        self._secrets = folder / "secrets"
        self._port = 0
        self._etcd: Program | None = None
        self._server: Program | None = None
        self._client: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        self._secrets.mkdir(mode=0o700)
        self.authority.pair.write(self._secrets, "ca")
        try:
            self._etcd, etcd = etcd_on_loopback.started(self.folder / "etcd", self.logs)
            self._start_server(etcd)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End both processes and remove the data; logs and kubeconfigs stay."""
        for program in (self._server, self._etcd):
            if program is not None:
                program.kill()  # nothing of it is kept, so there is nothing to end in order
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process of kube-apiserver, for who measures it."""
        return None if self._server is None else self._server.pid

    @property
    def certificate_authority(self) -> Path:
        """The certificate (PEM) that clients trust; its key lies beside it as `ca.key`."""
        return self._secrets / "ca.crt"

    @property
    def kubeconfig(self) -> Path:
        """For an administrator: a client certificate of the group system:masters, which RBAC does not bind."""
        return self.kubeconfig_for_user("admin", ["system:masters"])

    def kubeconfig_for_user(self, name: str, groups: Sequence[str] = ()) -> Path:
        """For a user in `groups`, known by a client certificate; the same arguments give the same file."""
        file = self._secrets / f"{_plain('_'.join(['user', name, *groups]))}.kubeconfig"
        if not file.exists():
            pair = self.authority.client(name, groups)
            kubeconfigs.write(
                file, self.url, self.authority.pair.certificate, name, kubeconfigs.certified(pair)
            )
        return file

    def kubeconfig_for_service_account(self, namespace: str, name: str, seconds: int = 3600) -> Path:
        """For a ServiceAccount that exists: a token bound to it, valid for `seconds` (at least 600).

        Raises:
            WindlassError: the server refused, for example because there is no such ServiceAccount.
        """
        answer = self.request(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": seconds},
            },
        )
        file = self._secrets / f"{_plain(f'account_{namespace}_{name}')}.kubeconfig"
        user = {"token": answer["status"]["token"]}
        kubeconfigs.write(file, self.url, self.authority.pair.certificate, name, user)
        return file

    def request(self, method: str, path: str, body: Any = None, timeout: float = 30.0) -> Any:
        """What the server answers an administrator, as a document, or as text where it is no JSON.

        Raises:
            WindlassError: it refused or could not be reached; the server's own message is in it.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 - https
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=self._trusting()) as answer:  # noqa: S310
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            raise WindlassError(f"{method} {path} was answered {error.code}: {said}") from error
        except OSError as error:
            raise WindlassError(f"{method} {path} at {self.url} failed: {error}") from error
        try:
            return json.loads(text)
        except ValueError:
            return text

    def kubectl(
        self,
        *words: str | Path,
        kubeconfig: Path | None = None,
        given: str | None = None,
        check: bool = True,
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, by default as the administrator.

        Args:
            words: its arguments.
            kubeconfig: as whom.
            given: what it reads from its standard input, for `-f -`.
            check: whether a failure is raised.
            timeout: seconds after which it is ended.

        Raises:
            WindlassError: it failed, and `check` is set; its words are in the message.
        """
        command = [tool("kubectl"), "--kubeconfig", kubeconfig or self.kubeconfig, *words]
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=timeout
        )
        if check and done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise WindlassError(f"`kubectl {' '.join(map(str, words))}` ended with {done.returncode}: {said}")
        return done

    def kill(self) -> None:
        """End kube-apiserver at once, as a crash does; etcd goes on."""
        self._program().kill()

    def stop(self) -> None:
        """End kube-apiserver in order; etcd goes on."""
        self._program().stop()

    def start(self) -> None:
        """Start kube-apiserver again after `kill` or `stop`, on the same port and data, and wait until it is ready."""
        program = self._program()
        program.start()
        self._wait_until_ready(program)

    def _start_server(self, etcd: str) -> None:
        for attempt in range(STARTS):
            self._port = int(self._flags.get("secure-port", free_port()))
            self._server = program = Program(
                "kube-apiserver",
                [
                    tool("kube-apiserver"),
                    *(f"--{name}={value}" for name, value in self._settings(etcd).items()),
                ],
                self.logs,
            )
            program.start()
            try:
                self._wait_until_ready(program)
            except WindlassError:
                if program.running() or attempt == STARTS - 1:
                    raise
                if IN_USE not in program.tail(200):
                    raise
            else:
                return

    def _settings(self, etcd: str) -> dict[str, str]:
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        names += ["kubernetes.default.svc.cluster.local", HOST, SERVICE_ADDRESS, *self._addresses]
        serving = self.authority.server("kube-apiserver", names).write(self._secrets, "apiserver")
        public, signing = signing_pair().write(self._secrets, "service-accounts")
        return {
            "etcd-servers": etcd,
            "bind-address": HOST,
            "advertise-address": HOST,
            # loopback is no endpoint that Pods could reach, and the server says so every ten seconds
            "endpoint-reconciler-type": "none",
            "secure-port": str(self._port),
            "tls-cert-file": str(serving[0]),
            "tls-private-key-file": str(serving[1]),
            "client-ca-file": str(self.certificate_authority),
            "authorization-mode": "RBAC",
            "enable-admission-plugins": ",".join(ADMISSION),
            "service-account-issuer": ISSUER,
            "service-account-key-file": str(public),
            "service-account-signing-key-file": str(signing),
            "service-cluster-ip-range": SERVICES,
            "allow-privileged": "true",
            "profiling": "false",
            **self._flags,
        }

    def _wait_until_ready(self, program: Program) -> None:
        deadline = time.monotonic() + READY_S
        said = "nothing"
        while time.monotonic() < deadline:
            program.require_running()
            try:
                self.request("GET", "/readyz", timeout=5)
                self.request("GET", "/api/v1/namespaces/default", timeout=5)  # made after it is ready
            except WindlassError as error:
                said = str(error)
            else:
                return
            time.sleep(0.05)
        raise WindlassError(
            f"kube-apiserver was not ready within {READY_S:g} s ({said}); {program.log}:\n{program.tail()}"
        )

    def _program(self) -> Program:
        if self._server is None:
            raise WindlassError("the API server was never started; use it as a context manager")
        return self._server

    def _trusting(self) -> ssl.SSLContext:
        if self._client is None:
            context = ssl.create_default_context(cafile=str(self.certificate_authority))
            context.load_cert_chain(
                *self.authority.client("admin", ["system:masters"]).write(self._secrets, "admin")
            )
            self._client = context
        return self._client


def _plain(name: str) -> str:
    return name.replace(":", "-").replace("/", "-")


#: How long it may take until the server goes by what it has stored, in seconds.
IN_FORCE_S = 120.0
_RIGHTS = ("roles", "rolebindings")
_marks = itertools.count(1)


def established(server: ApiServer) -> None:
    """Wait until every definition is served.

    `kubectl wait` fails on one that has no conditions yet, and who lists the objects of one that is established is sent
    away (429) until the server has a place for them.
    """
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

    def states() -> list[dict[str, str]]:
        return [
            {c["type"]: c["status"] for c in (crd.get("status") or {}).get("conditions") or ()}
            for crd in server.request("GET", path)["items"]
        ]

    def listed(group: str, version: str, plural: str) -> bool:
        try:
            server.request("GET", f"/apis/{group}/{version}/{plural}?limit=1")
        except WindlassError:
            return False
        return True

    _in_force(
        lambda: all(each.get("Established") == "True" for each in states()), "definitions are established"
    )
    for crd in server.request("GET", path)["items"]:
        group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        for version in (each["name"] for each in crd["spec"]["versions"] if each["served"]):
            _in_force(
                functools.partial(listed, group, version, plural), f"{plural}.{group}/{version} is served"
            )


def rights_in_force(server: ApiServer, namespace: str) -> None:
    """Wait until the server goes by the Roles and RoleBindings that were written, or deleted, up to now.

    Its authorizer hears of them a moment later, of each kind in the order of the writes: once it has heard of the last
    ones, which are made here, it has heard of all.
    """
    name = f"last-{next(_marks)}"
    paths = [f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{kind}" for kind in _RIGHTS]
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get"]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
    for path, content in zip(paths, ({"rules": [rule]}, {"roleRef": role, "subjects": [user]}), strict=True):
        server.request("POST", path, {"metadata": {"name": name}, **content})
    attributes = {"namespace": namespace, "verb": "get", "resource": "configmaps", "name": name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": name, "resourceAttributes": attributes},
    }

    def allowed() -> bool:
        answer = server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    _in_force(allowed, f"the rights in {namespace} are in force")
    for path in paths:
        server.request("DELETE", f"{path}/{name}")


def admitted(server: ApiServer, path: str, pod: Any) -> Any:
    """What the server makes of a pod that is posted there; it knows a class of priority a moment after that was made.

    Raises:
        WindlassError: it refuses the pod.
    """
    found: list[Any] = []

    def known() -> bool:
        try:
            found.append(server.request("POST", path, pod))
        except WindlassError as error:
            if "no PriorityClass with name" not in str(error):
                raise
        return bool(found)

    _in_force(known, "the pod's class of priority is known")
    return found[0]


def _in_force(ask: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + IN_FORCE_S
    while not ask():
        assert time.monotonic() < until, f"{what}: not within {IN_FORCE_S:g} s"
        time.sleep(0.02)
