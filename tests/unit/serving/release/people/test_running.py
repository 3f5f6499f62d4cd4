"""What the real proxy shows of an end that nobody confirmed."""

from __future__ import annotations

import pytest
from release_stories import CANARY, Arm, Story

from serving.release.people import account, running
from serving.release.people.running import Platform
from windlass import settings as settings_module
from windlass.errors import WindlassError


class Down:
    """A registry that does not answer."""

    def __setitem__(self, model, version):
        raise WindlassError("the registry does not answer")


@pytest.fixture
def home(tmp_path):
    found = settings_module.load({"WINDLASS_HOME": str(tmp_path / "home"), "WINDLASS_PROJECT": str(tmp_path)})
    found.run_dir.parent.mkdir(parents=True)
    found.run_dir.symlink_to(tmp_path)  # the proxy's folder is beside
    return found


def test_an_end_without_its_alias_is_in_force_where_the_wire_shows_it(proxy, home):
    """Verify that the decided weights on the real proxy count, other weights do not, nor does a proxy that is gone."""
    story = Story(home.journal_dir / "releases", CANARY, {"12": Arm(), "13": Arm()}, champions=Down()).start()
    with pytest.raises(WindlassError, match="registry"):
        story.play()
    story.controller.close()
    told = account.find(home.journal_dir / "releases", "flights")
    assert not running.on_wire(home, told)
    proxy.backend.set_weights("flights", {"13": 100})
    assert running.on_wire(home, told)
    assert running.on_wire(home, told, Platform(engine=False))
    proxy.backend.stop()
    assert not running.on_wire(home, told)


def test_an_alias_has_its_moment(home, proxy):
    """Verify that an end which an engine is about to confirm is not told before."""
    Story(home.journal_dir / "releases", CANARY, {"12": Arm(), "13": Arm()}).start().play()
    path = home.journal_dir / "releases" / "flights" / "0001-flights-13.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    told = account.find(home.journal_dir / "releases", "flights")
    proxy.backend.set_weights("flights", {"13": 100})
    assert told.history.unconfirmed is not None
    assert not running.on_wire(home, told, Platform(engine=True))
    assert running.on_wire(home, told, Platform(engine=False))
