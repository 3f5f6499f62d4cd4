"""The page in a real browser: nothing sticks out, nothing fails, nothing is loaded, on a desk and on a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from watched_stories import BAD, SUMMARY

from monitoring.report.page import page

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here; `windlass doctor` names the package"),
]

# Appended to the page: writes down what a person would see go wrong.
LOOK = """
<script>
var failures = [];
addEventListener("error", function (event) { failures.push(String(event.message)); });
addEventListener("securitypolicyviolation", function (event) { failures.push(event.violatedDirective); });
addEventListener("load", function () {
  var width = document.documentElement.clientWidth, out = [];
  document.querySelectorAll("main *, header *").forEach(function (element) {
    var box = element.getBoundingClientRect();
    // what scrolls inside itself may be wider
    if (!box.width || element.closest(".scroll, svg, pre")) return;
    if (box.right > width + 1 || box.left < -1) out.push(element.tagName + "." + element.className);
  });
  var shown = document.querySelectorAll("svg.wide, svg.narrow"), plots = 0;
  shown.forEach(function (plot) { if (plot.getBoundingClientRect().width > 0) plots += 1; });
  var seen = { width: width, scroll: document.documentElement.scrollWidth, out: out.slice(0, 5), plots: plots,
    paper: getComputedStyle(document.body).backgroundColor, failures: failures,
    cards: document.querySelectorAll(".strip .card").length };
  document.body.setAttribute("data-seen", JSON.stringify(seen));
});
</script>
"""


def seen(tmp_path: Path, width: int) -> dict[str, Any]:
    """What the browser makes of the page in a window of `width` pixels."""
    assert BROWSER is not None
    text = page(SUMMARY, [], {"analyses": BAD})
    # before the page's own scripts, so that their failures are heard
    (tmp_path / "page.html").write_text(text.replace("<body>", f"<body>{LOOK}", 1))
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *(
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},2000",
            "--virtual-time-budget=2000",
        ),
        *("--dump-dom", (tmp_path / "page.html").as_uri()),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<body[^>]* data-seen="([^"]*)"', ended.stdout)
    assert found, ended.stderr[-2000:]
    content: dict[str, Any] = json.loads(unescape(found[1]))
    return content


@pytest.mark.parametrize("width", [pytest.param(1400, id="desk"), pytest.param(500, id="phone")])
def test_nothing_sticks_out_and_nothing_fails(tmp_path: Path, width: int) -> None:
    """Verify that no part is wider than the window, every plot is drawn once, and no script or policy complains."""
    found = seen(tmp_path, width)
    assert found["width"] <= width
    assert found["failures"] == [] and found["out"] == []
    assert found["scroll"] <= found["width"]
    assert found["cards"] == 12  # ten checks and two budgets
    assert found["plots"] == 4  # of each the wide or the narrow drawing, never both
