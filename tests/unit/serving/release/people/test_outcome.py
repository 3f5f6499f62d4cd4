"""What a release came to, and waiting for it, on journals that the engine wrote."""

from __future__ import annotations

from datetime import timedelta

import pytest
from release_stories import CANARY, ERRORS, SLOW, START, STORIES, Arm, Story, document

from serving.release import spec
from serving.release.backend import RejectedError
from serving.release.journal import mailbox, refusals
from serving.release.journal.store import DiskStore
from serving.release.people import account, outcome, waiting
from windlass import settings as settings_module
from windlass.errors import UsageError, WindlassError


@pytest.fixture
def home(tmp_path):
    return settings_module.load({"WINDLASS_HOME": str(tmp_path), "WINDLASS_PROJECT": str(tmp_path)})


def told(directory):
    return account.find(directory, "flights")


@pytest.mark.parametrize(
    ("story", "expected", "code"),
    [
        pytest.param("canary", "promoted", 0, id="promoted"),
        pytest.param("failing", "rolled_back", 3, id="rolled-back"),
        pytest.param("unseen", "inconclusive", 4, id="given-up-without-evidence"),
        pytest.param("undecided", "inconclusive", 4, id="experiment-over-without-winner"),
    ],
)
def test_a_finished_release_has_an_outcome(tmp_path, story, expected, code):
    """Verify word and exit code of each end."""
    STORIES[story](tmp_path)
    found = told(tmp_path).history
    assert (outcome.of(found), outcome.EXIT_CODES[outcome.settled(found)]) == (expected, code)


@pytest.mark.parametrize(
    ("command", "expected"), [("abort", "aborted"), ("promote", "promoted"), ("rollback", "rolled_back")]
)
def test_a_persons_end_is_told_by_its_own_word(tmp_path, command, expected):
    """Verify that an abort by a person is no finding about the candidate."""
    story = Story(tmp_path, CANARY, {"12": Arm(), "13": Arm()}).start()
    story.look()
    story.controller.command("flights", command)
    assert outcome.of(told(tmp_path).history) == expected


def test_a_live_release_has_no_outcome(tmp_path):
    """Verify that nobody who waits is told too early."""
    Story(tmp_path, CANARY, {"12": Arm(), "13": Arm()}).start().look()
    found = told(tmp_path).history
    assert (outcome.of(found), outcome.stuck(found), outcome.settled(found)) == (None, False, None)


def test_a_hold_beyond_its_time_is_inconclusive_for_who_waits(tmp_path):
    """Verify that the engine's own hold after `inconclusiveAfter` is recognised, and is no end."""
    held = document(CANARY["spec"]["strategy"], ERRORS, SLOW, inconclusiveAfter="30m")
    story = Story(tmp_path, held, {"12": Arm(), "13": Arm()}, silent_until=timedelta(days=1)).start()
    for _ in range(5):
        story.look()
    assert not outcome.stuck(told(tmp_path).history)
    for _ in range(3):
        story.look()
    found = told(tmp_path).history
    assert (outcome.of(found), outcome.settled(found)) == (None, "inconclusive")


def test_what_is_decided_and_not_in_force_is_not_over(tmp_path):
    """Verify that a rollback counts once the router has taken it."""
    story = Story(tmp_path, CANARY, {"12": Arm(), "13": Arm(errors=0.5)}).start()
    take = story.router.set_traffic

    def refuse(model, traffic):
        raise RejectedError("no")

    story.router.set_traffic = refuse
    with pytest.raises(RejectedError):
        story.look()
    found = told(tmp_path).history
    assert (outcome.of(found), outcome.settled(found)) == ("rolled_back", None)
    story.router.set_traffic = take
    story.controller.settle("flights")
    assert outcome.settled(told(tmp_path).history) == "rolled_back"


# --- waiting


class Time:
    """Time that passes only while somebody sleeps, and what happens then."""

    def __init__(self, *happens):
        self.now, self.happens, self.said = 0.0, list(happens), []

    def sleep(self, seconds):
        self.now += seconds
        if self.happens:
            self.happens.pop(0)()

    def wait(self, home, name=None, timeout=None, on_wire=lambda told: False):
        return waiting.wait(
            home,
            "flights",
            name,
            timeout,
            sleep=self.sleep,
            passed=lambda: self.now,
            say=self.said.append,
            on_wire=on_wire,
        )


def test_waiting_from_the_letter_to_the_end(home):
    """Verify that a release is followed from the inbox through its journal to its outcome."""
    letter = mailbox.submit(mailbox.inbox(home), spec.parse(CANARY), START)
    story = Story(home.journal_dir / "releases", CANARY, {"12": Arm(), "13": Arm(errors=0.08)})
    time = Time(lambda: None, story.start, letter.unlink, story.play)
    found = time.wait(home)
    assert (found.outcome, found.exit_code, found.found.name) == ("rolled_back", 3, "flights-13")
    assert [where.place for where in time.said][:2] == ["inbox", "journal"]


def test_a_finished_release_is_not_taken_for_the_one_that_was_just_handed_over(home):
    """Verify that `apply` and then `wait` waits for the new release although an older one is over."""
    STORIES["canary"](home.journal_dir / "releases")
    newer = {**CANARY, "metadata": {"name": "flights-14"}}
    mailbox.submit(mailbox.inbox(home), spec.parse(newer), START)
    found = Time().wait(home, timeout=timedelta(seconds=3))
    assert (found.outcome, found.exit_code, found.found.name) == (None, 5, "flights-14")
    assert Time().wait(home, name="flights-13").exit_code == 0


def test_a_queued_release_waits_for_its_turn(home):
    """Verify that a place in the queue is waiting, not an error."""
    directory = home.journal_dir / "releases"
    Story(directory, CANARY, {"12": Arm(), "13": Arm()}).start()
    queued = {**CANARY, "metadata": {"name": "later"}}
    store = DiskStore(directory)
    store.enqueue("flights", "later", queued, START)
    time = Time()
    assert time.wait(home, "later", timedelta(seconds=2)).exit_code == 5
    assert [where.place for where in time.said] == ["queue"]


def test_a_release_that_the_platform_refuses_ends_the_wait(home):
    """Verify that a letter which vanishes without a journal is an error and no endless wait."""
    letter = mailbox.submit(mailbox.inbox(home), spec.parse(CANARY), START)
    with pytest.raises(WindlassError, match="refused") as caught:
        Time(letter.unlink).wait(home)
    assert caught.value.exit_code == 1


HOUR = timedelta(hours=1)
NEWER = {**CANARY, "metadata": {"name": "flights-14"}}


@pytest.mark.parametrize("name", [None, "flights-13"])
def test_a_refusal_that_is_told_ends_the_wait_with_its_reason(home, name):
    """Verify exit code 1 and the reason, from the letter on, with and without the release's name."""
    letter = mailbox.submit(mailbox.inbox(home), spec.parse(CANARY), START)

    def refuse():
        refusals.record(home, "flights", "flights-13", "version 13 has no bundle", START + HOUR)
        letter.unlink()

    time = Time(lambda: None, refuse)
    found = time.wait(home, name)
    assert (found.outcome, found.word, found.exit_code) == (None, "refused", 1)
    assert found.found.handed.reason == "version 13 has no bundle"
    assert [where.place for where in time.said] == ["inbox", "refused"]


@pytest.mark.parametrize(
    ("name", "after", "place", "exit_code"),
    [
        pytest.param(None, HOUR, "refused", 1, id="an-older-release-that-is-over-is-not-taken-for-it"),
        pytest.param(None, -HOUR, "journal", 0, id="what-began-after-the-refusal-counts"),
        pytest.param("flights-14", -HOUR, "refused", 1, id="named"),
        pytest.param("flights-13", HOUR, "journal", 0, id="another-release-named"),
    ],
)
def test_the_newest_hand_over_is_waited_for(home, name, after, place, exit_code):
    """Verify that a refused release and an older promoted one are told apart by their times."""
    STORIES["canary"](home.journal_dir / "releases")
    refusals.record(home, "flights", "flights-14", "no bundle", START + after)
    found = Time().wait(home, name, timedelta(seconds=1))
    assert (found.found.place, found.exit_code) == (place, exit_code)


def test_a_name_that_is_taken_and_refused_is_not_promoted_again(home):
    """Verify that the second release of a name is not answered with the first one's end."""
    STORIES["canary"](home.journal_dir / "releases")
    refusals.record(home, "flights", "flights-13", "is over; give another name", START + timedelta(days=9))
    assert Time().wait(home, "flights-13").exit_code == 1
    refusals.clear(home, "flights", "flights-13")
    mailbox.submit(mailbox.inbox(home), spec.parse(CANARY), START + timedelta(days=9))
    assert Time().wait(home, "flights-13", timedelta(seconds=1)).exit_code == 5


def test_a_refusal_beside_the_queue_is_told_by_time(home):
    """Verify that a release which was queued after another's refusal is the newest."""
    store = DiskStore(home.journal_dir / "releases")
    refusals.record(home, "flights", "flights-12", "no bundle", START)
    store.enqueue("flights", "flights-14", NEWER, START + HOUR)
    assert waiting.locate(home, "flights").name == "flights-14"
    refusals.record(home, "flights", "flights-12", "no bundle", START + 2 * HOUR)
    assert waiting.locate(home, "flights").name == "flights-12"


def test_a_registry_that_is_down_keeps_nobody_waiting(home):
    """Verify that an end whose traffic is in force is told with what is still to be done, and only then."""

    class Down:
        def __setitem__(self, model, version):
            raise WindlassError("the registry does not answer")

    arms = {"12": Arm(), "13": Arm()}
    story = Story(home.journal_dir / "releases", CANARY, arms, champions=Down()).start()
    with pytest.raises(WindlassError, match="registry"):
        story.play()
    story.controller.close()
    assert Time().wait(home, timeout=timedelta(seconds=1)).exit_code == 5
    found = Time().wait(home, on_wire=lambda told: dict(told.state.weights) == {"13": 100})
    assert (found.outcome, found.exit_code) == ("promoted", 0)
    assert found.pending == "the alias is still to be moved to version 13"


def test_a_journal_without_its_first_line_is_still_waiting(home):
    """Verify that a crash while a release began does not look like a refusal."""
    mailbox.submit(mailbox.inbox(home), spec.parse(CANARY), START)
    torn = home.journal_dir / "releases" / "flights" / "0001-flights-13.jsonl"
    torn.parent.mkdir(parents=True)
    torn.write_text('{"kind": "rel')
    assert Time().wait(home, timeout=timedelta(seconds=1)).exit_code == 5


def test_an_unknown_release_is_an_error_at_once(home):
    """Verify that nobody waits for what was never handed over."""
    with pytest.raises(UsageError, match="has no release"):
        Time().wait(home)
