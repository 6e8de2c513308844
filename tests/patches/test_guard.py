"""locust_tcp/patches/guard.py: a patch is applied only where all that it was tested with is installed."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from locust_tcp import patches
from locust_tcp.patches import guard
from locust_tcp.patches.guard import ABSENT, UNREADABLE, Patch, digest

SOURCE = """
class Entry:
    @property
    def name(self):
        return "upstream"

    def log(self):
        def inner():
            return "upstream"
        return inner()

def bucket(time):
    return round(time)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Return a function that writes the source of the module `somelocust` and imports it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # written too soon after one another, sources look the same

    def load(source: str) -> Any:
        sys.modules.pop("somelocust", None)
        (tmp_path / "somelocust.py").write_text(source)
        __import__("somelocust")
        return sys.modules["somelocust"]

    yield load
    sys.modules.pop("somelocust", None)


NAMES = ["somelocust:bucket", "somelocust:Entry.log", "somelocust:Entry.name", "somelocust:Entry.log.inner"]


@pytest.mark.parametrize("name", NAMES)
def test_a_digest_changes_with_its_function_and_with_nothing_else(module: Callable[[str], Any], name: str) -> None:
    module(SOURCE)
    before = digest(name)
    module("import os\n" + SOURCE + "\nclass More: pass\n")
    assert digest(name) == before
    module(SOURCE.replace('"upstream"', '"changed"').replace("round", "int"))
    assert digest(name) not in (before, ABSENT, UNREADABLE)


def test_what_is_not_there_is_absent(module: Callable[[str], Any]) -> None:
    module(SOURCE)
    absent = ["somelocust:other", "somelocust:Entry.other", "somelocust:Entry.log.other", "nowhere:other"]
    assert {digest(name) for name in absent} == {ABSENT}


def test_without_the_source_a_digest_is_unreadable(module: Callable[[str], Any]) -> None:
    loaded = module("")
    exec(SOURCE, loaded.__dict__)  # as from a file of byte code
    assert {digest(name) for name in NAMES} == {UNREADABLE}
    assert digest("builtins:len") == UNREADABLE


def ours(time: float) -> float:
    return time


def patch(*digests: str, requires: tuple[Patch, ...] = ()) -> Patch:
    return Patch("digits", {"somelocust:bucket": set(digests)}, {"somelocust:bucket": ours}, requires)


def test_a_patch_is_applied_to_what_it_was_tested_with(module: Callable[[str], Any]) -> None:
    loaded = module(SOURCE)
    fitting = patch("another", digest("somelocust:bucket"))
    fitting.check()
    fitting.apply()
    assert fitting.applied and not fitting.differing
    assert loaded.bucket is ours


def test_a_patch_leaves_alone_what_it_was_not_tested_with(module: Callable[[str], Any]) -> None:
    loaded = module(SOURCE)
    refused = patch("another")
    refused.check()
    refused.apply()
    assert not refused.applied
    assert refused.differing == ["somelocust:bucket"]
    assert loaded.bucket(0.7) == 1


def test_a_patch_is_not_applied_without_one_that_it_requires(module: Callable[[str], Any]) -> None:
    loaded = module(SOURCE)
    refused = patch("another")
    dependent = patch(digest("somelocust:bucket"), requires=(refused,))
    for each in (refused, dependent):
        each.check()
        each.apply()
    assert not dependent.applied
    assert loaded.bucket(0.7) == 1


# The patches of the kit


def test_all_patches_are_applied_to_the_installed_locust() -> None:
    assert [each.lost for each in patches.PATCHES if not each.applied] == []


def test_all_patches_are_listed_after_those_that_they_require() -> None:
    modules = [value for name, value in vars(patches).items() if getattr(value, "__package__", "") == patches.__name__]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Patch)]
    assert set(found) == set(patches.PATCHES)
    for number, each in enumerate(patches.PATCHES):
        assert set(each.requires) <= set(patches.PATCHES[:number])


@pytest.mark.parametrize("each", patches.PATCHES, ids=lambda each: each.lost)
def test_each_patch_is_refused_where_any_function_differs(each: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    assert each.replacements.keys() <= each.tested.keys()
    for changed in each.tested:
        monkeypatch.setattr(
            guard, "digest", lambda name, changed=changed: "new" if name == changed else next(iter(each.tested[name]))
        )
        fresh = dataclasses.replace(each, applied=False, replacements=dict.fromkeys(each.replacements, ours))
        fresh.check()
        fresh.apply()  # would put `ours` into Locust
        assert fresh.differing == [changed]
        assert not fresh.applied
    for name in each.replacements:
        owner, attribute = guard._owner(name)
        assert getattr(owner, attribute) is not ours


@pytest.mark.parametrize("each", patches.PATCHES, ids=lambda each: each.lost)
def test_each_patch_is_refused_without_any_that_it_requires(each: Patch) -> None:
    for missing in each.requires:
        others = [dataclasses.replace(missing, applied=False), *(one for one in each.requires if one is not missing)]
        fresh = dataclasses.replace(
            each, tested={}, applied=False, replacements=dict.fromkeys(each.replacements, ours), requires=others
        )
        fresh.apply()
        assert not fresh.applied


def test_one_warning_names_all_that_is_lost(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    patches.warn_of_lost()
    assert caplog.messages == []
    lost = [Patch("digits", {}, differing=["locust.stats:bucket"]), Patch("the last row", {})]
    monkeypatch.setattr(patches, "PATCHES", lost)
    patches.warn_of_lost()
    (message,) = caplog.messages
    assert "Lost: digits; the last row. Changed functions: locust.stats:bucket" in message
