"""What `helm test` asks: that each part answers, and that the API server takes a Release (it is tried, not kept)."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SAMPLE = {
    "apiVersion": "windlass.dev/v1alpha1",
    "kind": "Release",
    "metadata": {"name": "helm-test"},
    "spec": {
        "model": "helm-test",
        "candidate": "2",
        "champion": "1",
        "backend": "gateway",
        "gateway": {"name": "windlass"},
        "strategy": {"type": "canary", "steps": [{"weight": 10, "minSamples": 500}]},
        "checks": [
            {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus", "bound": 1}
        ],
    },
}


def answers(url: str, within: float = 60.0) -> tuple[bool, str]:
    """Whether a part answers with 200, asked until it does or the time is over."""
    ends = time.monotonic() + within
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - an address of the chart
                return True, "answers"
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > ends:
                return False, str(error)
            time.sleep(1.0)


def release_is_taken(server: str, token: str, trusted: Path, namespace: str) -> tuple[bool, str]:
    """Whether the API server would take the sample: its schema, its rules and the rights are asked, nothing is kept."""
    request = urllib.request.Request(  # noqa: S310 - https
        f"{server}/apis/windlass.dev/v1alpha1/namespaces/{namespace}/releases?dryRun=All&fieldValidation=Strict",
        json.dumps(SAMPLE).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        context = ssl.create_default_context(cafile=str(trusted))
        with urllib.request.urlopen(request, timeout=10, context=context):  # noqa: S310
            return True, "a Release is taken"
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = json.loads(said)["message"]
        return False, f"a Release is refused: {said}"
    except OSError as error:
        return False, f"the API server cannot be asked: {error}"


def _say(fine: bool, said: str) -> None:
    sys.stdout.write(f"{'ok  ' if fine else 'FAIL'} {said}\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", action="append", default=[], metavar="URL")
    parser.add_argument("--release", action="store_true")
    parser.add_argument("--within", type=float, default=60.0, metavar="SECONDS")
    arguments = parser.parse_args(argv)
    good = True
    for url in arguments.answers:
        fine, said = answers(url, arguments.within)
        good &= fine
        _say(fine, f"{url}: {said}")
    if arguments.release:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        fine, said = release_is_taken(
            f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            (ACCOUNT / "token").read_text(),
            ACCOUNT / "ca.crt",
            os.environ["POD_NAMESPACE"],
        )
        good &= fine
        _say(fine, said)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
