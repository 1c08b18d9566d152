"""A trial of which processes die is given up; one whose processes are stopped or are killed with the machine is not."""

import pytest

from tuning.attempts import DIED, MOST_DEATHS, MOST_SEEN, begin, stop


def test_deaths_that_were_seen_count_and_others_of_a_watched_worker_do_not(tmp_path, monkeypatch):
    for _ in range(9):  # all processes were killed at once, by whatever
        assert begin(tmp_path, "worker0", is_watched=True) == ""
    for number in range(1, MOST_SEEN + 1):
        monkeypatch.setenv(DIED, "SIGKILL" if number > 1 else "code 1")
        given_up = begin(tmp_path, "worker0", is_watched=True)
        assert bool(given_up) == (number == MOST_SEEN)
    assert given_up == "its process has died 3 times (code 1, SIGKILL)"


def test_a_death_counts_for_the_first_trial_behind_it_alone(tmp_path, monkeypatch):
    folders = [tmp_path / str(number) for number in range(2)]
    for folder in folders:
        folder.mkdir()
        begin(folder, "worker0", is_watched=True)
    monkeypatch.setenv(DIED, "SIGSEGV")
    for folder in folders:
        begin(folder, "worker0", is_watched=True)
    assert ["SIGSEGV" in (folder / "attempts.json").read_text() for folder in folders] == [True, False]


@pytest.mark.parametrize("another", ["worker1", None])
def test_who_was_stopped_or_is_another_has_not_died(another, tmp_path):
    """A chief that is started again gives a trial to whoever asks first."""
    for _ in range(2 * MOST_DEATHS):
        assert begin(tmp_path, "tuner0", is_watched=False) == ""
        if another:
            assert begin(tmp_path, another, is_watched=False) == ""
        else:
            stop(tmp_path)


def test_a_search_that_is_killed_five_times_in_one_trial_still_has_it(tmp_path):
    said = [begin(tmp_path, "tuner0", is_watched=False) for _ in range(7)]
    assert said == [""] * 6 + ["its process has died 6 times (unseen)"]
