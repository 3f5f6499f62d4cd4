"""Watching one live release: what is counted of it, what the collector joined, and the smoke requests of blue-green."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from serving.release.cluster import naming
from serving.release.cluster.kinds import HTTP_ROUTE
from serving.release.evidence import Evidence, Smoke
from serving.release.metrics import METRICS
from serving.release.probe import DirectProber, Probing
from serving.release.prometheus.templates import Queries, clusters_of, envoy_gateway, runtime
from serving.release.release import Bandit, BlueGreen, Canary, Shadow
from serving.release.state import ReleaseState
from windlass.operator import collected, evidence
from windlass.operator.backends import Chosen
from windlass.operator.collected import Collected
from windlass.operator.evidence import Places, ReleaseEvidence
from windlass.operator.place import Place


class Watching:
    """Watches until it is closed.

    Raises:
        UnreachableError, RejectedError: the journal cannot be read.
    """

    def __init__(self, place: Place, live: ReleaseState, chosen: Chosen) -> None:
        self.release = live.release
        self._place = place
        self._chosen = chosen
        self._probing: Probing | None = None
        self._smoke: Smoke | None = None
        self._places_known: tuple[int, Places] | None = None
        self._judged_from: tuple[int, ...] | None = None
        self._counted = self._counting(live)
        self._collected = self._collecting()

    def evidence(self, live: ReleaseState, at: datetime) -> Evidence:
        """Everything that is known at `at`.

        Raises:
            UnreachableError, RejectedError: the route, from which the proxies' names follow, cannot be read.
        """
        found = Evidence(at)
        if self._counted is not None:
            # also where the wire was repaired, and the engine took its new base, at the look before
            anew = not live.ratio.base or live.ratio.base != self._judged_from
            self._judged_from = live.ratio.base
            found = self._counted.look(at, anew=anew)
        if isinstance(self.release.strategy, Shadow) and "prometheus" in found.silent:
            # its servers answer nothing but copies, so that their counters speak for what became of those
            found = replace(found, silent={**found.silent, "predictions": found.silent["prometheus"]})
        if self._collected is not None:
            found = evidence.merged(found, self._collected.look(live, at))
        self._ask_green(live)
        return found if self._smoke is None else replace(found, smoke=self._smoke)

    def close(self) -> None:
        """Send no more smoke requests."""
        if self._probing is not None:
            self._probing.stop()
            self._probing = None

    def _counting(self, live: ReleaseState) -> ReleaseEvidence | None:
        place, release = self._place, self.release
        if place.prometheus is None:
            return None
        base = evidence.newest(place.records(release))
        began = live.started_at or place.clock.now()
        # nobody waits at a proxy for a copy, and the servers of a shadow count theirs
        by_place = place.settings.evidence == "envoyGateway" and not isinstance(release.strategy, Shadow)
        return ReleaseEvidence(
            place.prometheus,
            release.model,
            (live.champion, *release.candidates),
            began if base is None else base.at,
            base,
            queries=_of_the_proxy if by_place else self._of_the_servers,
            places=self._places if by_place else _nowhere,
            # two namespaces may have models of one name, and one Prometheus; a proxy's clusters bear the namespace
            more={} if by_place else {"namespace": place.namespace},
            scrape_interval_s=place.settings.scrape_interval_s,
            durations=any(METRICS[check.metric].unit == "latency" for check in release.checks),
            # an experiment's split is of units, and nobody splits what is copied or switched
            shares=isinstance(release.strategy, Canary | Bandit),
            pods=() if by_place else self._pods(live),
        )

    def _of_the_servers(self, places: Places | None) -> Queries:
        return runtime(self.release.backend)

    def _pods(self, live: ReleaseState) -> tuple[str, ...]:
        versions = (live.champion, *self.release.candidates)
        # KServe calls the pods after the Service, in Knative's revisions too
        return tuple(f"{naming.predictor(self.release.model, version)}-" for version in versions)

    def _collecting(self) -> Collected | None:
        place, release = self._place, self.release
        if place.collector is None or not collected.is_needed(release):
            return None
        return Collected(place.collector, collected.of_journal(place.records(release)))

    def _places(self) -> Places | None:
        changes = self._chosen.backend.changes
        if self._places_known is None or self._places_known[0] != changes:
            model = self.release.model
            route = self._place.api.get(HTTP_ROUTE, self._place.namespace, naming.route(model))
            versions = {
                naming.predictor(model, v): v for v in (*self.release.candidates, *self._others(route))
            }
            self._places_known = (changes, {} if route is None else clusters_of(route, versions))
        return self._places_known[1]

    def _others(self, route: object) -> list[str]:
        """Versions that the route names, the champion among them."""
        found: list[str] = []
        if isinstance(route, dict):
            for rule in route["spec"].get("rules", ()):
                for ref in rule.get("backendRefs", ()):
                    version = naming.version_of(self.release.model, ref["name"])
                    if version is not None:
                        found.append(version)
        return found

    def _ask_green(self, live: ReleaseState) -> None:
        """Warm up and smoke the candidate of a blue-green release at its own Service, beside everything else."""
        strategy = live.release.strategy
        if not isinstance(strategy, BlueGreen) or live.step != 0 or (self._smoke and self._smoke.tried):
            return
        if self._probing is None:
            service = naming.predictor(self.release.model, self.release.candidate)
            address = f"{service}.{self._place.namespace}.svc:80"
            prober = DirectProber(self.release.model, address, None)
            self._probing = Probing(prober, strategy.smoke, strategy.warm_up)
        if self._probing.found is not None:
            self._smoke = self._probing.found


def _of_the_proxy(places: Places | None) -> Queries:
    return envoy_gateway(places or {})


def _nowhere() -> Places | None:
    return None
