"""Which text names a home, and which only looks like it."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from mlops_platform.home_backup.old_paths import OldPaths

OLD, NEW = "/data/home", "/mnt/x"


def moved(text: str, *homes: str, new: str = NEW) -> str:
    return OldPaths(homes or (OLD,), new).replace(text.encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "{}", "{}/a", "file://{}/a", "sqlite:///{}/crm.db?timeout=60", '"{}"', "HOME={} ", "made in {}.", "({})",
        "{}:{}", "\\n{}/a", "\x1b[34m{}\x1b[0m", "\x1b[0m{}", "{}\\u001b[0m", "{}\\n",
    ],
)  # fmt: skip
def test_a_path_is_found(text: str) -> None:
    assert moved(text.replace("{}", OLD)) == text.replace("{}", NEW)
    assert OldPaths([OLD], NEW).are_in(text.replace("{}", OLD).encode())


@pytest.mark.parametrize(
    "text",
    ["/data/home2", "/data/home.old/a", "/data/home-2", "/data/homé", "/data/hom", "/mnt/data/home", "x/data/home",
     "é/data/home", "file:///data/home%20two/a", '"/data/home\\u00e9"', "/data/home~", "/DATA/HOME"],
)  # fmt: skip
def test_another_path_is_not(text: str) -> None:
    assert moved(text) == text
    assert not OldPaths([OLD], NEW).are_in(text.encode())


@pytest.mark.parametrize("old", ["/o/ö ä", "/o/\U0001f600", "/o/it's (1)", '/o/"q"', "/o/日本"])
@pytest.mark.parametrize("new", [NEW, "/ñ/a b"])
def test_in_every_form(old: str, new: str) -> None:
    assert moved(f"{old}/a", old, new=new) == f"{new}/a"
    assert moved(f"file://{quote(old)}/a", old, new=new) in {f"file://{quote(new)}/a", f"file://{new}/a"}
    assert moved(f"file%3A%2F%2F{quote(old, safe='')}%2Fa", old, new=new) == f"file%3A%2F%2F{quote(new)}%2Fa"
    for ascii_only in (True, False):
        once = json.dumps({"path": f"{old}/a"}, ensure_ascii=ascii_only)
        assert json.loads(moved(once, old, new=new)) == {"path": f"{new}/a"}
        twice = json.dumps(once, ensure_ascii=ascii_only)
        assert json.loads(json.loads(moved(twice, old, new=new))) == {"path": f"{new}/a"}


def test_the_longest_of_several() -> None:
    assert moved("/a/b/c /a/b /a/c", "/a", "/a/b") == f"{NEW}/c {NEW} {NEW}/c"


def test_the_new_path_may_hold_the_old_one() -> None:
    assert moved("/a/x and /a/b/y", "/a", new="/a/b") == "/a/b/x and /a/b/b/y"


def test_bytes_that_are_no_text_stay() -> None:
    assert OldPaths([OLD], NEW).replace(b"\xff\x00 /data/home/\xfe") == b"\xff\x00 /mnt/x/\xfe"


@pytest.mark.parametrize("old", ["/o/ö ä", "/日本", OLD])
def test_the_first_look_misses_no_form(old: str) -> None:
    forms = [old, quote(old), json.dumps(old), json.dumps(json.dumps(old))]
    (piece,) = OldPaths([old], NEW).pieces
    assert all(piece in form for form in forms)


@pytest.mark.parametrize(
    "text", ["{}/a", "file://{}/a", "file:{}/a", r"file:\/\/{}/a", "file%3A%2F%2F%2Fdata%2Fhome/a", "made from {}/a"]
)
def test_an_address_takes_the_place_of_a_files_address(text: str) -> None:
    found = moved(text.replace("{}", OLD), new="s3://bucket/a folder")
    begin = "made from " if text.startswith("made") else ""
    assert found in {f"{begin}s3://bucket/a folder/a", "s3://bucket/a%20folder/a"}


def test_an_address_takes_nothing_elses_place() -> None:
    assert (
        moved("file:///data/home2/a file://s3://bucket", new="s3://here") == "file:///data/home2/a file://s3://bucket"
    )
    assert moved("profile://{}".replace("{}", OLD), new="s3://here") == "profile://s3://here"
    assert moved(r"a\nfile://{}".replace("{}", OLD), new="s3://here") == r"a\ns3://here"
