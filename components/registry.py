"""The model registry: MLflow behind the few questions that we ask. No other module imports mlflow.

Importing mlflow costs seconds, and most callers only ask who the champion is. What the registry answers is kept
beside the database together with the database's own stamp; it is read as long as the stamp holds, so that a change
made by another MLflow client is never overlooked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components import bundle, signing
from components.published import Published
from windlass import atomic, telemetry
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

PREFIX = "windlass."
ARTIFACTS = "windlass"
BUNDLES = f"{ARTIFACTS}/bundles"
CHAMPION = "champion"
#: MLflow's variables for the addresses of its servers.
SERVER = "MLFLOW_TRACKING_URI"
_ADDRESSES = (SERVER, "MLFLOW_REGISTRY_URI")
_LOGGED = "models:/"
CANDIDATE = "candidate"
INCOMPLETE = "incomplete"
REJECTED = "rejected"


@dataclass(frozen=True)
class VersionInfo:
    """One registered version.

    Attributes:
        trained_from, trained_to: ISO 8601; the interval of the training rows (the evaluation window comes after it).
        offline_auc: on the evaluation window.
        state: "champion", "candidate", "rejected" (a gate failed) or "retired" (a champion before).
        aliases: MLflow's aliases that point here.
    """

    model: str
    version: str
    state: str
    trained_from: str
    trained_to: str
    offline_auc: float
    run_id: str
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Submission:
    """What is registered as a new version.

    Attributes:
        folder: a bundle without a version (`serving.json`, `model.onnx`, reference files).
        extra: more files to keep with the run.
        inputs: names of the model's inputs, for the signature.
        example: one row of inputs.
        tags: version tags, without our prefix; need trained_from, trained_to, offline_auc, run.
    """

    model: str
    run_name: str
    folder: Path
    extra: tuple[Path, ...]
    inputs: tuple[str, ...]
    example: tuple[float, ...]
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


class Registry:
    """The registry that the settings name: a local database, or the server of `MLFLOW_TRACKING_URI`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # a process that uses mlflow leaves a local database's address in it; only a server is another registry
        address = os.environ.get(SERVER, "")
        self._server = address if address.startswith(("http://", "https://")) else None
        self._client_: Any = None

    @property
    def _database(self) -> Path:
        return self._settings.registry_dir / "mlflow.db"

    def connect(self) -> None:
        """Import MLflow, which takes seconds, and make the local database where there is none: before it is urgent."""
        self._remember()

    def champion(self, model: str) -> str | None:
        """Version that holds the champion alias, None where there is none."""
        return next((v.version for v in self.versions(model) if CHAMPION in v.aliases), None)

    def set_champion(self, model: str, version: str) -> None:
        """Move the champion alias; who held it before is "retired"."""
        self.info(model, version)
        before = self.champion(model)
        client = self._client()
        client.set_registered_model_alias(model, CHAMPION, version)
        client.set_model_version_tag(model, version, PREFIX + "state", CHAMPION)
        if before is not None and before != version:
            client.set_model_version_tag(model, before, PREFIX + "state", "retired")
        if any(CANDIDATE in v.aliases and v.version == version for v in self._ask(model)):
            client.delete_registered_model_alias(model, CANDIDATE)
        self._remember()

    def set_state(self, model: str, version: str, state: str) -> None:
        """Say what became of a version, for example "rolled_back"."""
        self.info(model, version)
        self._client().set_model_version_tag(model, version, PREFIX + "state", state)
        self._remember()

    def info(self, model: str, version: str) -> VersionInfo:
        """Return one version.

        Raises:
            UsageError: there is none.
        """
        versions = self.versions(model)
        for v in versions:
            if v.version == str(version):
                return v
        known = ", ".join(v.version for v in versions) or "none"
        raise UsageError(
            f"model {model!r} has no version {version!r}; it has: {known}; `windlass train {model} …` makes one"
        )

    def versions(self, model: str) -> tuple[VersionInfo, ...]:
        """All versions, oldest first; one whose registration was cut short is left out."""
        return tuple(v for v in self._known(model) if v.state != INCOMPLETE)

    def bundle_dir(self, model: str, version: str) -> Path:
        """Folder of a version's serving bundle, with `reference.json` and `reference.parquet`."""
        return self._settings.bundles_dir / model / str(version)

    def has_bundle(self, model: str, version: str) -> bool:
        """Whether a version's bundle is here or among the registry's artifacts, from where it can be fetched.

        Raises:
            WindlassError: the artifacts cannot be listed.
        """
        if (self.bundle_dir(model, version) / bundle.MANIFEST).is_file():
            return True
        client = self._client()
        try:
            run_id = client.get_model_version(model, str(version)).run_id
            return bool(run_id and client.list_artifacts(run_id, f"{BUNDLES}/{version}"))
        except Exception as error:  # what an object store's client raises passes through mlflow as it is
            raise WindlassError(
                f"the registry does not say whether it has the bundle of version {version} of model {model!r}: {error}"
            ) from error

    def fetch_bundle(self, model: str, version: str) -> Path:
        """Return the folder of a version's bundle, brought back from the registry's artifacts where it is not here.

        Raises:
            WindlassError: the registry does not have it, its signature does not hold, or it cannot be written.
        """
        folder = self.bundle_dir(model, version)
        if (folder / bundle.MANIFEST).is_file():
            return folder
        client = self._client()
        self._point_mlflow_here()
        import mlflow

        with tempfile.TemporaryDirectory() as name:
            try:
                registered = client.get_model_version(model, str(version))
                kept = mlflow.artifacts.download_artifacts(
                    run_id=registered.run_id, artifact_path=f"{BUNDLES}/{version}", dst_path=name
                )
            except Exception as error:  # what an object store's client raises passes through mlflow as it is
                raise WindlassError(
                    f"the bundle of version {version} of model {model!r} cannot be fetched: {error}; a version that "
                    f"`windlass train` did not register has none: move the alias {CHAMPION} to one that it did"
                ) from error
            keys = signing.reader(self._settings)
            try:
                return bundle.restore(self._settings.bundles_dir, model, str(version), Path(kept), keys)
            except OSError as error:
                if (folder / bundle.MANIFEST).is_file():
                    return folder  # another process brought it meanwhile
                raise WindlassError(
                    f"the bundle of version {version} of model {model!r} cannot be written to {folder}: "
                    f"{error.strerror}; make room there, or let this process write it"
                ) from error

    def place(self, model: str, version: str) -> Path:
        """Have a version's bundle where model servers load it: in this home and, where one is set, in the object store.

        Returns:
            Its folder in this home.

        Raises:
            WindlassError: the registry does not have it, its signature does not hold, or it cannot be written.
        """
        folder = self.fetch_bundle(model, version)
        self._share(model, version, folder)
        return folder

    def fetch_model(self, uri: str, place: Path) -> tuple[Path, str, str]:
        """Bring the MLflow model that `uri` names into `place`; return its folder, its name and its version.

        Args:
            uri: `models:/name/version`, `models:/name@alias`, or `runs:/…`, whose name is the artifact's.

        Raises:
            UsageError: there is no such model.
        """
        client = self._client()
        self._point_mlflow_here()
        import mlflow

        try:
            if uri.startswith("models:/") and "@" in uri:
                name, _, alias = uri.removeprefix("models:/").partition("@")
                version = str(client.get_model_version_by_alias(name, alias).version)
            else:
                kind, name, *rest = uri.rstrip("/").split("/")
                version = rest[-1] if rest else ""
                if kind == "runs:":
                    name, version = version, name[:8]
            if not name or not version:
                raise UsageError(
                    f"model {uri!r} has no name or no version; use models:/name/version or models:/name@alias"
                )
            folder = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(place))
        except (mlflow.exceptions.MlflowException, OSError) as error:
            raise UsageError(
                f"model {uri!r} cannot be fetched: {error}; `windlass status` lists what is registered"
            ) from error
        return Path(folder), name, version

    def by_content(self, model: str, content: str) -> VersionInfo | None:
        """The newest version made of the same training data, model and verdict."""
        same = [
            v
            for v in self.versions(model)
            if v.tags.get("content") == content and "copied_from" not in v.tags
        ]
        return same[-1] if same else None

    def register(self, submission: Submission, *, state: str, champion: bool) -> VersionInfo:
        """Register a version, write its bundle, and set its aliases; the same run registers once, whenever it died.

        Raises:
            WindlassError: it cannot be written.
        """
        model, run = submission.model, submission.tags["run"]
        client = self._client()
        self._reach(model)
        with self._writing():
            found = [v for v in self._ask(model) if v.tags.get("run") == run and "copied_from" not in v.tags]
            version = found[-1].version if found else self._create(submission)
            before = found[-1].state if found else INCOMPLETE
            self._publish(model, version, submission.folder)
            # the bundle is there: only now is the version one that others may see; what became since of one that was
            # seen already stays
            if before == INCOMPLETE:
                client.set_model_version_tag(model, version, PREFIX + "state", state)
            if state == CANDIDATE and before in (INCOMPLETE, CANDIDATE):
                client.set_registered_model_alias(model, CANDIDATE, version)
        self._remember()
        if champion:
            self.set_champion(model, version)
        return self.info(model, version)

    def copy(self, model: str, version: str, tags: Mapping[str, str]) -> str:
        """Register the same artifacts as a new version with more tags, and write its bundle; return its number."""
        original = self.info(model, version)
        folder = self.fetch_bundle(model, original.version)
        client = self._client()
        self._reach(model)
        # the source of a version is looked up where mlflow points, not where the client does
        self._point_mlflow_here()
        with self._writing():
            source = client.get_model_version(model, original.version)
            merged = {**original.tags, **tags, "copied_from": original.version, "state": INCOMPLETE}
            made = client.create_model_version(
                model,
                source=source.source,
                run_id=source.run_id,
                tags={PREFIX + k: v for k, v in merged.items()},
                # it wants the logged model's id beside its address, and does not tell it of a version
                model_id=source.source.removeprefix(_LOGGED) if source.source.startswith(_LOGGED) else None,
            )
            copied = str(made.version)
            self._publish(model, copied, folder)
            client.set_model_version_tag(model, copied, PREFIX + "state", tags.get("state", CANDIDATE))
        self._remember()
        return copied

    def _publish(self, model: str, version: str, source: Path) -> None:
        """Write a version's signed bundle: here, and as it is to the registry's artifacts and the object store."""
        keys = signing.keys(self._settings)
        place = bundle.publish(self._settings.bundles_dir, model, version, source, keys)
        run_id = self._client().get_model_version(model, version).run_id
        self._client().log_artifacts(run_id, str(place), f"{BUNDLES}/{version}")
        self._share(model, version, place)

    def _reach(self, model: str) -> None:
        """Fail before a version is made, and in words of ours: mlflow hands on what an object store's client raises."""
        if self._settings.object_store is not None:
            Published(self._settings).reach(model)

    def _share(self, model: str, version: str, folder: Path) -> None:
        if self._settings.object_store is not None:
            Published(self._settings).put(model, version, folder, signing.reader(self._settings).public)

    def _create(self, submission: Submission) -> str:
        import mlflow
        import numpy as np
        import onnx
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        client, model = self._client(), submission.model
        self._point_mlflow_here()
        experiment = client.get_experiment_by_name(model)
        if experiment is None:
            # a server keeps artifacts itself, where it was told: a folder of this machine is nobody else's
            kept_there = self._server is not None and self._settings.object_store is None
            location = None if kept_there else self._artifacts()
            identifier = client.create_experiment(model, artifact_location=location)
        else:
            identifier = experiment.experiment_id
        run_id = client.create_run(identifier, run_name=submission.run_name).info.run_id
        client.log_batch(
            run_id,
            metrics=[Metric(k, v, 0, 0) for k, v in submission.metrics.items()],
            params=[Param(k, v) for k, v in submission.parameters.items()],
            tags=[RunTag(PREFIX + k, v) for k, v in submission.tags.items()],
        )
        f = len(submission.inputs)
        signature = ModelSignature(
            Schema([TensorSpec(np.dtype("float32"), (-1, f), "features")]),
            Schema([TensorSpec(np.dtype("float32"), (-1,), "probability")]),
        )
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.onnx.log_model(
                onnx.load(submission.folder / bundle.MODEL_FILE),
                name="model",
                signature=signature,
                input_example=np.asarray([submission.example], dtype=np.float32),
                # named here: inferring them runs the model in a fresh interpreter for half a minute
                pip_requirements=[
                    f"onnxruntime=={_installed('onnxruntime')}",
                    f"numpy=={_installed('numpy')}",
                ],
                onnx_execution_providers=["CPUExecutionProvider"],
                save_as_external_data=False,
                metadata={"inputs": list(submission.inputs), **dict(submission.tags)},
            )
            for path in submission.extra:
                client.log_artifact(run_id, str(path), ARTIFACTS)
        with contextlib.suppress(mlflow.exceptions.MlflowException):  # it exists already
            client.create_registered_model(model)
        tags = {**submission.tags, "state": INCOMPLETE}
        made = client.create_model_version(
            model,
            source=logged.model_uri,
            run_id=run_id,
            tags={PREFIX + k: v for k, v in tags.items()},
            model_id=logged.model_id,  # a server takes no logged model's address without it
        )
        return str(made.version)

    def _known(self, model: str) -> list[VersionInfo]:
        if self._server is not None:
            return self._ask(model)
        if not self._database.exists():
            return []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._snapshot.read_text())
            if kept["stamp"] == self._stamp():
                return [_from_json(v) for v in kept["models"].get(model, [])]
        return self._remember().get(model, [])

    def _ask(self, model: str) -> list[VersionInfo]:
        client = self._client()
        # the search over versions leaves the aliases out; the model has them
        models = client.search_registered_models(f"name='{model}'")
        aliases = {a: str(v) for m in models if m.name == model for a, v in m.aliases.items()}
        found = client.search_model_versions(f"name='{model}'", max_results=10_000)
        return sorted((_from_mlflow(v, aliases) for v in found), key=lambda v: int(v.version))

    @property
    def _snapshot(self) -> Path:
        return self._settings.registry_dir / "snapshot.json"

    def _stamp(self) -> list[int]:
        status = self._database.stat()
        return [status.st_mtime_ns, status.st_size, status.st_ino]

    def _remember(self) -> dict[str, list[VersionInfo]]:
        if self._server is not None:
            return {}
        client = self._client()
        # the stamp first: a change made while we read makes it stale at once, never wrongly fresh
        stamp = self._stamp()
        models: dict[str, list[VersionInfo]] = {}
        for registered in client.search_registered_models(max_results=1000):
            models[registered.name] = self._ask(registered.name)
        document = {"stamp": stamp, "models": {m: [asdict(v) for v in vs] for m, vs in models.items()}}
        atomic.write_text(self._snapshot, json.dumps(document))
        return models

    def _client(self) -> Any:
        if self._client_ is None:
            telemetry.switch_off()
            if self._settings.s3_endpoint:
                os.environ.setdefault("MLFLOW_S3_ENDPOINT_URL", self._settings.s3_endpoint)
            # a pooled connection goes on reading a database that was replaced at its path, by a restore for one
            os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
            import mlflow

            logging.getLogger("mlflow").setLevel(logging.ERROR)
            logging.getLogger("alembic").setLevel(logging.ERROR)
            if self._server is None:
                self._make_database()
            self._client_ = mlflow.MlflowClient(tracking_uri=self._address, registry_uri=self._address)
        return self._client_

    @property
    def _address(self) -> str:
        return self._server or f"sqlite:///{self._database}"

    def _point_mlflow_here(self) -> None:
        """Logging and loading models go by mlflow's global address, which another home may have set.

        mlflow puts both into the environment as well. There they do not stay: what this process starts would take a
        database of ours for the address of a server.
        """
        import mlflow

        before = {name: os.environ.get(name) for name in _ADDRESSES}
        mlflow.set_tracking_uri(self._address)
        mlflow.set_registry_uri(self._address)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _make_database(self) -> None:
        """Make the tables in a file beside and rename it: a process killed while migrating leaves no half database."""
        if self._database.exists():
            return
        folder = self._settings.registry_dir
        folder.mkdir(parents=True, exist_ok=True)
        with self._writing():
            if self._database.exists():
                return
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as name:
                path = Path(name) / "mlflow.db"
                store = SqlAlchemyStore(f"sqlite:///{path}", self._artifacts())
                store.engine.dispose()
                path.rename(self._database)

    def _artifacts(self) -> str:
        if self._settings.object_store:
            return f"{self._settings.object_store}/registry"
        return str(self._settings.registry_dir / "artifacts")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer a home; the lock goes with its holder."""
        self._settings.registry_dir.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._settings.registry_dir).free < 1 << 20:
            raise WindlassError(
                f"no space left on the device of {self._settings.registry_dir}; "
                "free some space and run the command again"
            )
        with (self._settings.registry_dir / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _from_mlflow(v: Any, aliases: Mapping[str, str]) -> VersionInfo:
    tags = {k.removeprefix(PREFIX): str(value) for k, value in v.tags.items() if k.startswith(PREFIX)}
    held = tuple(sorted(a for a, version in aliases.items() if version == str(v.version)))
    return VersionInfo(
        model=v.name,
        version=str(v.version),
        state=_state(tags.pop("state", INCOMPLETE), held),
        trained_from=tags.get("trained_from", ""),
        trained_to=tags.get("trained_to", ""),
        offline_auc=float(tags.get("offline_auc", "nan")),
        run_id=tags.get("run", ""),
        aliases=held,
        tags=tags,
    )


def _state(said: str, aliases: tuple[str, ...]) -> str:
    """A version's state: the alias says who is champion, whoever moved it and whatever tags were left behind.

    A cluster's operator and people move the alias alone. One that `windlass train` did not register is champion too:
    who took it for none would let the next candidate pass uncompared, and take its place.
    """
    if CHAMPION in aliases:
        return CHAMPION
    return "retired" if said == CHAMPION else said


def _from_json(value: dict[str, Any]) -> VersionInfo:
    return VersionInfo(**{**value, "aliases": tuple(value["aliases"])})


def _installed(distribution: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(distribution)
