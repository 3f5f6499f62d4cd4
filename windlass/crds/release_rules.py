"""What must hold of a Release's fields for each other: `serving.release.rules`, in the words of an API server.

Versions are numbers or texts, and until Kubernetes 1.34 an API server reckoned each as 3 MB long: rules that look into
every one of a list have to be cheap.
"""

from __future__ import annotations

from collections.abc import Iterator

from serving.release.metrics import METRICS
from serving.release.rules import SUPPORTED
from windlass.crds.rule import Rule, duration, text, texts

NAME = "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_NAME_REMEDY = "use up to 63 letters, digits, dots, dashes and underscores, a letter or digit at both ends"

_SEVERAL = texts(("experiment", "bandit"))
_ANSWERS = texts(name for name, metric in METRICS.items() if name == "errorRate" or metric.unit == "latency")
_RELATIVE = "(has(c.relativeToChampion) && c.relativeToChampion)"
_MIRRORED = (
    '(self.strategy.type == "shadow" || '
    '(self.strategy.type == "canary" && has(self.strategy.mirror) && self.strategy.mirror))'
)
_VALUES = texts(name for name, metric in METRICS.items() if metric.unit == "value")
_PAIRED = texts(name for name, metric in METRICS.items() if metric.paired)

_VERSIONS = {"candidate": "[self.candidate]", "candidates": "self.candidates", "champion": "[self.champion]"}

#: `windlass-<model>-predictor` and `<model>-v<version>-predictor` would name Services, of 63 characters at most.
LONGEST_MODEL = 44
LONGEST_TOGETHER = 51


def of_the_object() -> Iterator[Rule]:
    """Rules of the whole object."""
    yield Rule(
        "",
        "size(self.metadata.name) <= 63",
        "metadata.name: a release's name has up to 63 characters; give it a shorter one",
    )


def of_the_spec() -> Iterator[Rule]:
    """Rules of `spec`."""
    yield Rule(
        "",
        "self == oldSelf",
        "a release is decided under the document that it began with; leave it as it is and create another one "
        "with a name of its own",
    )
    yield Rule("model", f"self.matches({text(NAME)})", _NAME_REMEDY)
    yield Rule("candidate", f"string(self).matches({text(NAME)})", _NAME_REMEDY)
    yield Rule("champion", f"string(self).matches({text(NAME)})", _NAME_REMEDY)
    yield from _candidates()
    yield from _servers()
    yield from _allocation()
    yield from of_a_template()


def _candidates() -> Iterator[Rule]:
    yield Rule(
        "",
        f"!has(self.candidates) || self.strategy.type in {_SEVERAL}",
        "this strategy has one candidate; state it as candidate",
        ".candidates",
    )
    yield Rule(
        "",
        "has(self.candidate) || has(self.candidates)",
        'give the version to release, for example "13"; an experiment or a bandit takes several as candidates',
        ".candidate",
    )
    yield Rule(
        "",
        "!(has(self.candidate) && has(self.candidates))",
        "candidates are stated as well; keep one of the two",
        ".candidate",
    )
    yield Rule(
        "",
        "!(has(self.champion) && has(self.candidate)) || string(self.champion) != string(self.candidate)",
        "is the champion itself; name another version",
        ".candidate",
    )
    # one that is listed may be a number in one place and the same number as a text in the other
    yield Rule(
        "",
        "!(has(self.champion) && has(self.candidates)) || !(string(self.champion) in self.candidates || "
        '(string(self.champion).matches("^[0-9]{1,18}$") && int(self.champion) in self.candidates))',
        "the champion itself is among them; name other versions",
        ".candidates",
    )


def _servers() -> Iterator[Rule]:
    """On a cluster a model and a version are the names of a Service."""
    yield Rule(
        "",
        f'self.backend == "local" || (size(self.model) <= {LONGEST_MODEL} && '
        'self.model.matches("^[a-z]([-a-z0-9]*[a-z0-9])?$"))',
        "names a Service on a cluster: use lower case letters, digits and dashes, a letter first, "
        f"{LONGEST_MODEL} characters at most",
        ".model",
    )
    numbers = 10 ** (LONGEST_TOGETHER - LONGEST_MODEL)
    for name, of in _VERSIONS.items():
        yield Rule(
            "",
            f'self.backend == "local" || !has(self.{name}) || {of}.all(v, type(v) == int ? v < {numbers} : '
            f'(size(self.model) + size(v) <= {LONGEST_TOGETHER} && !v.matches("[._A-Z]")))',
            "names a Service on a cluster: use lower case letters, digits and dashes, "
            f"{LONGEST_TOGETHER} characters at most with the model",
            f".{name}",
        )


def _allocation() -> Iterator[Rule]:
    shares = 'self.strategy.type != "experiment" || !has(self.strategy.allocation) ||'
    field = ".strategy.allocation"
    yield Rule(
        "",
        f"{shares} ((!has(self.candidates) || self.candidates.all(v, string(v) in self.strategy.allocation)) && "
        "(!has(self.candidate) || string(self.candidate) in self.strategy.allocation))",
        "gives a candidate nothing; name each with its percent",
        field,
    )
    yield Rule(
        "",
        f"{shares} self.strategy.allocation.all(v, self.strategy.allocation[v] > 0)",
        "gives a version nothing to compare with; leave it out, or give it a share",
        field,
    )
    yield Rule(
        "",
        f"{shares} (size(self.strategy.allocation) == (has(self.candidates) ? size(self.candidates) : 1) + 1 && "
        "(!has(self.champion) || string(self.champion) in self.strategy.allocation))",
        "must name the candidates and the champion and no other; state spec.champion and give it a share",
        field,
    )
    yield Rule(
        "",
        'self.strategy.type != "bandit" || '
        "(has(self.strategy.floor) ? self.strategy.floor : 5) * "
        "((has(self.candidates) ? size(self.candidates) : 1) + 1) <= 100",
        "so many versions cannot keep this floor each; lower it, or release fewer at a time",
        ".strategy.floor",
    )


def of_a_template() -> Iterator[Rule]:
    """Rules of what does not depend on who is released."""
    yield duration("inconclusiveAfter")
    yield from _backends()
    yield from _steps()
    yield from _what_checks_compare()
    yield from _sources()
    yield from _checks()


def _backends() -> Iterator[Rule]:
    backend = '(has(self.backend) ? self.backend : "local")'
    for name, kinds in SUPPORTED.items():
        if kinds != SUPPORTED["local"]:
            yield Rule(
                "",
                f"{backend} != {text(name)} || self.strategy.type in {texts(kinds)}",
                f"backend {name} has two weights without mirroring, assignment or a preview, so it can do "
                f"{' and '.join(kinds)}; or use gateway",
                ".strategy.type",
            )
    yield Rule(
        "",
        f'!has(self.gateway) || {backend} == "gateway"',
        "this backend has no Gateway; leave it out, or use backend gateway",
        ".gateway",
    )
    yield Rule(
        "",
        f'{backend} != "gateway" || self.strategy.type != "experiment" || '
        "(has(self.gateway) && has(self.gateway.extension))",
        "gateway.extension: assigning units needs an extension of the Gateway; state extension: envoyGateway where it "
        "is one",
        ".gateway",
    )
    yield Rule(
        "",
        f'{backend} == "local" || !has(self.strategy.mirror) || !self.strategy.mirror',
        "this backend cannot copy each version's requests to the other; use strategy shadow first, or backend local",
        ".strategy.mirror",
    )
    yield Rule(
        "",
        f'!({backend} in ["kserve", "knative"]) || !has(self.strategy.match)',
        "this backend routes by weight alone; leave match out, or use gateway",
        ".strategy.match",
    )
    yield Rule(
        "",
        f'{backend} == "local" || self.checks.all(c, c.source != "envoy")',
        "envoy, the access log, is the local backend's source; use prometheus",
        ".checks",
    )


def _steps() -> Iterator[Rule]:
    yield Rule(
        "",
        'self.strategy.type != "canary" || !has(self.strategy.steps) || '
        "self.strategy.steps.all(s, s.weight != 100) || "
        f'self.checks.all(c, c.kind == "guardrail" && !{_RELATIVE})',
        "a step of 100 leaves no champion traffic for the checks to compare with; end below 100, promotion gives the "
        "candidate the rest",
        ".strategy.steps",
    )


def _what_checks_compare() -> Iterator[Rule]:
    yield Rule(
        "",
        'self.strategy.type != "blueGreen" || '
        f'self.checks.all(c, c.kind == "guardrail" && !{_RELATIVE} && !(c.metric in {_VALUES}))',
        "blueGreen leaves the champion no concurrent requests to compare with; give each check a bound without "
        "relativeToChampion, or use canary",
        ".checks",
    )
    yield Rule(
        "",
        'self.strategy.type != "shadow" || self.checks.all(c, c.metric != "reward")',
        "nobody acts on a shadow's answers, so they earn nothing; use disagreement, scoreDistance or brier",
        ".checks",
    )
    yield Rule(
        "",
        f"{_MIRRORED} || self.checks.all(c, !(c.metric in {_PAIRED}))",
        "disagreement, scoreDistance and brier pair both versions' scores of one request; set strategy.mirror to true, "
        "or use shadow",
        ".checks",
    )
    yield Rule(
        "",
        'self.strategy.type == "experiment" || self.checks.all(c, !has(c.covariate) || !c.covariate)',
        "a pre-period covariate belongs to a unit; use experiment, or leave covariate out",
        ".checks",
    )


def _sources() -> Iterator[Rule]:
    yield Rule(
        "",
        'self.strategy.type != "shadow" || self.checks.all(c, !(c.source in ["envoy", "prometheus"]))',
        "nobody waits for a shadow's copy, so no access log knows it; use predictions, which joins both versions' "
        "answers by request id",
        ".checks",
    )
    yield Rule(
        "",
        f'{_MIRRORED} || self.checks.all(c, c.source != "predictions" || !(c.metric in {_ANSWERS}))',
        "a failed request leaves no prediction; use envoy (prometheus on a cluster) for errors and latencies",
        ".checks",
    )
    yield Rule(
        "checks",
        f"self.all(c, !(c.metric in {_ANSWERS}) || "
        f"self.all(d, !(d.metric in {_ANSWERS}) || d.source == c.source))",
        "two sources count the same answers and never agree to the request; take errors and latencies from one",
    )


def _checks() -> Iterator[Rule]:
    yield Rule(
        "checks",
        'self.exists(c, c.kind == "guardrail")',
        "no guardrail: nothing could stop a bad candidate; add errorRate, latencyP99 or featureSkew",
    )
    yield Rule(
        "checks",
        'self.filter(c, c.kind == "decision").size() <= 1',
        "more than one decision; keep one, the rest as guardrails or secondary",
    )
    yield Rule(
        "",
        f'!(self.strategy.type in {_SEVERAL}) || self.checks.exists(c, c.kind == "decision")',
        "an experiment or a bandit needs a decision metric; add one, for example "
        "{name: reward, kind: decision, metric: reward, source: feedback}",
        ".checks",
    )
    yield Rule(
        "",
        'self.strategy.type != "bandit" || self.checks.all(c, c.kind != "decision" || !has(c.valueType) || '
        'c.valueType != "ratio")',
        "a bandit learns from one number a request; use valueType binary or continuous",
        ".checks",
    )
