"""What lies in the home: the registry, the models, the feature store; and the stores reached over a network."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shlex
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from windlass.doctor.finding import Finding, fail, ok
from windlass.local.plane import DataPlane
from windlass.settings import Settings


def registry(settings: Settings) -> Finding:
    """Whether MLflow's database opens, is sound, and has the schema of the mlflow that is installed."""
    database = settings.registry_dir / "mlflow.db"
    if not database.exists():
        return ok("registry", "empty: no model was trained here yet")
    if problem := unsound(database):
        return fail("registry", f"{database}: {problem}", _move_aside(settings.registry_dir))
    with closing(_open(database)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            models = connection.execute("SELECT count(*) FROM registered_models").fetchone()[0]
        except sqlite3.Error as error:
            return fail("registry", f"{database} is no registry: {error}", _move_aside(settings.registry_dir))
    expected = schema_head()
    if expected and row and row[0] != expected:
        mlflow = shlex.quote(str(Path(sys.executable).parent / "mlflow"))
        name = shlex.quote(str(database))
        return fail(
            "registry",
            f"{database} has schema {row[0]}, the installed mlflow wants {expected}",
            # mlflow's migrations are not transactional: a copy first, as its own help asks for
            f"cp {name} {name}.before && {mlflow} db upgrade sqlite:///{name}",
        )
    return ok("registry", f"{models} registered model(s), schema {row[0] if row else 'unknown'}")


def schema_head() -> str | None:
    """The newest schema revision that the installed mlflow knows, read from its files: importing it takes seconds."""
    spec = importlib.util.find_spec("mlflow")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "store" / "db_migrations" / "versions"
    revisions: dict[str, str] = {}
    for path in folder.glob("*.py"):
        text = path.read_text(errors="replace")
        revision = re.search(r"^revision\s*(?::[^=]*)?=\s*[\"'](\w+)", text, re.MULTILINE)
        parent = re.search(r"^down_revision\s*(?::[^=]*)?=\s*[\"'](\w+)", text, re.MULTILINE)
        if revision:
            revisions[revision[1]] = parent[1] if parent else ""
    heads = set(revisions) - set(revisions.values())
    return heads.pop() if len(heads) == 1 else None


def bundles(settings: Settings) -> Finding:
    """Whether every serving bundle is whole: its files have the hashes that it states."""
    whole = 0
    for path in sorted(settings.bundles_dir.glob("*/*/serving.json")):
        try:
            stated = json.loads(path.read_text())["sha256"]
            broken = [name for name, digest in stated.items() if sha256(path.parent / name) != digest]
        except (OSError, ValueError, KeyError, AttributeError) as error:
            broken = [f"serving.json ({type(error).__name__}: {error})"]
        if broken:
            cause = f"{path.parent}: {', '.join(broken)} is not what was registered"
            return fail("models", cause, _move_bundle_aside(settings, path.parent))
        whole += 1
    return ok("models", f"{whole} serving bundle(s), each with the hashes it states")


def features(settings: Settings) -> list[Finding]:
    """Whether the feature store was applied and its databases are sound."""
    findings = []
    rows = (
        sorted(p.name for p in settings.offline_dir.glob("*") if p.is_dir())
        if settings.offline_dir.is_dir()
        else []
    )
    if not rows and not settings.feast_registry.exists():
        return [ok("features", "empty: no feature was built here yet")]
    remedy = f"rm -f {shlex.quote(str(settings.feast_registry))}"
    if not settings.feast_registry.exists():
        findings.append(
            ok("features", f"offline rows of {len(rows)} view(s); applied when it is first opened")
        )
    elif settings.feast_registry.stat().st_size == 0:
        findings.append(fail("features", f"{settings.feast_registry} is empty", remedy))
    else:
        findings.append(ok("features", f"applied; offline rows of {len(rows)} view(s)"))
    if settings.online_store == "sqlite" and settings.online_db.exists():
        if problem := unsound(settings.online_db):
            database = shlex.quote(str(settings.online_db))
            findings.append(
                fail(
                    "online store",
                    f"{settings.online_db}: {problem}",
                    f"rm -f {database} {database}-wal {database}-shm",
                )
            )
        else:
            findings.append(ok("online store", f"{settings.online_db} is sound"))
    elif settings.online_store == "sqlite" and rows and DataPlane(settings).exists():
        findings.append(
            fail(
                "online store",
                f"{settings.online_db} is gone while a model is served: features are the last known or default ones",
                "windlass down && windlass up --detach",
            )
        )
    return findings


def redis(settings: Settings) -> Finding | None:
    """Whether the redis of the settings answers; None where none is set."""
    if settings.online_store != "redis" or not settings.redis_url:
        return None
    parts = urlsplit(settings.redis_url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 6379
    remedy = (
        f"redis-server --bind {host} --port {port} --daemonize yes --save ''"
        if host in ("127.0.0.1", "localhost", "::1")
        else "unset WINDLASS_ONLINE_STORE WINDLASS_REDIS_URL"
    )
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(b"PING\r\n")
            answer = connection.recv(64)
    except OSError as error:
        return fail("redis", f"{host}:{port} does not answer: {error}", remedy)
    # -NOAUTH is an answer too: whether the password is right is for the client to say
    if answer.startswith((b"+PONG", b"-NOAUTH")):
        return ok("redis", f"{host}:{port} answers")
    return fail("redis", f"{host}:{port} is no redis: it answered {answer[:32]!r}", remedy)


def object_store(settings: Settings) -> Finding | None:
    """Whether the endpoint of the object store can be reached; None where none is set."""
    if not settings.object_store:
        return None
    if not settings.s3_endpoint:
        return ok("object store", f"{settings.object_store} at the provider's own endpoint (not tried)")
    parts = urlsplit(settings.s3_endpoint)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((host, port), timeout=3):
            pass
    except OSError as error:
        return fail(
            "object store",
            f"{settings.s3_endpoint} cannot be reached: {error}",
            "unset WINDLASS_OBJECT_STORE WINDLASS_S3_ENDPOINT",
        )
    return ok("object store", f"{settings.object_store} at {settings.s3_endpoint}")


def unsound(database: Path) -> str | None:
    """What sqlite finds wrong with a database, None where nothing is."""
    try:
        with closing(_open(database)) as connection:
            row = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return None if row and row[0] == "ok" else str(row[0] if row else "no answer")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(database: Path) -> sqlite3.Connection:
    # read-only: a doctor must not change the patient, and must not wait for a writer either
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=2)


def _move_bundle_aside(settings: Settings, folder: Path) -> str:
    # out of the bundles' folder: whatever lies two levels deep in there is taken for a version
    kept = settings.home / f"broken-{folder.parent.name}-{folder.name}"
    return f"mv {shlex.quote(str(folder))} {shlex.quote(str(kept))}-$(date +%s)"


def _move_aside(path: Path) -> str:
    name = shlex.quote(str(path))
    return f"mv {name} {name}.broken-$(date +%s)"
