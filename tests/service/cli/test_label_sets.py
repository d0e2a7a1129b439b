"""`ahse labels`, on the data directory and at a service: the same commands say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.client import Client
from tests.conftest import Ahse
from tests.service.serving import serving


@pytest.fixture(params=["here", "at a service"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The option that says where the sets are."""
    if request.param == "here":
        return ("--data-dir", str(tmp_path / "data"))
    return ("--url", str(request.getfixturevalue("toy_service")))


def test_a_set_is_made_changed_and_deleted(ahse: Ahse, place: tuple[str, str], tmp_path: Path) -> None:
    """Names on standard output, what was done on standard error."""

    def labels(*words: object) -> tuple[int, str, str]:
        return ahse("labels", *words, *place)

    assert labels("put", "animals", "dog", "cat") == (0, "", "label set animals has 2 labels\n")
    assert labels("add", "animals", "cow", "dog") == (0, "", "label set animals has 3 labels\n")
    assert labels("rm", "animals", "dog", "cat") == (0, "", "label set animals has 1 labels\n")
    assert labels("get", "animals") == (0, "cow\n", "")
    (tmp_path / "names").write_text("# birds\nowl\n\nwren, small\n")
    assert labels("put", "animals", "--labels-file", tmp_path / "names", "--template", "a {}.")[0] == 0
    assert labels("get", "animals")[1] == "owl\nwren, small\n"
    listed = [line for line in labels("ls")[1].splitlines() if line.startswith("animals ")]
    assert "  2 labels  changed 2" in listed[0]
    assert labels("rm", "animals", "--all") == (0, "", "label set animals was deleted\n")
    code, _, err = labels("get", "animals")
    assert code == 2
    assert "there is no label set 'animals'" in err
    assert "[unknown_label_set]" in err


@pytest.mark.parametrize("names", [("#1 fan", "dog"), ("[music]", "dog")])
def test_a_set_that_was_printed_can_be_put_again(
    ahse: Ahse, place: tuple[str, str], tmp_path: Path, names: tuple[str, str]
) -> None:
    """Also where a line would be taken for a remark, or for the start of JSON."""
    assert ahse("labels", "put", "signs", *names, *place)[0] == 0
    printed = ahse("labels", "get", "signs", *place)[1]
    (tmp_path / "names").write_text(printed)
    assert ahse("labels", "put", "signs", "--labels-file", tmp_path / "names", *place)[0] == 0
    whole = json.loads(ahse("labels", "get", "signs", "--json", *place)[1])
    assert tuple(one["name"] for one in whole["labels"]) == names


def test_json_has_all_of_a_set(ahse: Ahse, place: tuple[str, str]) -> None:
    """And the listing a line each; an ETag guards a change."""
    more = ("--template", "a {}.", "--guarantee", "0.9")
    assert ahse("labels", "put", "json-set", "dog", "cat", *more, *place)[0] == 0
    whole = json.loads(ahse("labels", "get", "json-set", "--json", *place)[1])
    assert whole["labels"] == [{"name": "dog", "prompts": []}, {"name": "cat", "prompts": []}]
    assert (whole["templates"], whole["guarantee"], whole["n_labels"]) == (["a {}."], 0.9, 2)
    lines = [json.loads(line) for line in ahse("labels", "ls", "--json", *place)[1].splitlines()]
    assert {name: value for name, value in whole.items() if name != "labels"} in lines
    etag = ("--if-match", whole["etag"])
    assert ahse("labels", "rm", "json-set", "dog", "cat", *etag, *place)[0] == 0
    for change in (("put", "json-set", "a", "b"), ("add", "json-set", "a"), ("rm", "json-set", "--all")):
        code, _, err = ahse("labels", *change, *etag, *place)
        assert code == 2
        assert "[precondition_failed]" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("put", "s"), "ahse labels rm SET --all"),
        (("put", "s", "dog, cat"), "[ambiguous_labels]"),
        (("add", "s"), "no names were given to add"),
        (("rm", "s"), "either the names to take out, or --all"),
        (("rm", "s", "dog", "--all"), "either the names to take out, or --all"),
        (("put", "no/name", "a", "b"), "[invalid_name]"),
        (("get", "none-of-it"), "[unknown_label_set]"),
        (("add", "none-of-it", "a"), "[unknown_label_set]"),
        (("rm", "none-of-it", "a"), "[unknown_label_set]"),
        (("put", "s", "a", "A"), "[duplicate_labels]"),
        (("put", "s", "a", "--warm"), "--warm is for a running service"),
        (("add", "s", "a", "--warm"), "--warm is for a running service"),
    ],
)
def test_what_can_not_be_meant_is_told(ahse: Ahse, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    """In one line, with exit code 2; nothing is made for a question."""
    code, out, err = ahse("labels", *words, "--data-dir", tmp_path / "data")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert says in err


def test_a_guarantee_is_no_more_than_can_be_promised(ahse: Ahse, tmp_path: Path) -> None:
    """The limits are said."""
    code, _, err = ahse("labels", "put", "s", "a", "b", "--guarantee", "0.3", "--data-dir", tmp_path)
    assert code == 2
    assert "0.5" in err
    assert "0.99" in err
    assert ahse("labels", "ls", "--data-dir", tmp_path)[1] == ""


def test_names_can_be_embedded_at_once(ahse: Ahse, toy_service: str) -> None:
    """By the service; nothing is waited for."""
    place = ("--url", toy_service)
    assert ahse("labels", "put", "warm-set", "dog", "cat", "--warm", *place)[0] == 0
    assert (
        ahse("labels", "add", "warm-set", "cow", "--warm", *place)[2] == "label set warm-set has 3 labels\n"
    )


def test_one_place_is_meant(ahse: Ahse, tmp_path: Path) -> None:
    """A service or a folder, and a key for a service only."""
    assert ahse("labels", "ls", "--url", "http://x", "--data-dir", tmp_path)[0] == 2
    assert "--url" in ahse("labels", "ls", "--key", "k")[2]


def test_listing_makes_no_folder(ahse: Ahse, tmp_path: Path) -> None:
    """There is nothing in it yet."""
    assert ahse("labels", "ls", "--data-dir", tmp_path / "data") == (0, "", "")
    assert not (tmp_path / "data").exists()


def test_many_sets_are_listed(ahse: Ahse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page."""
    monkeypatch.setattr("service.cli.local_label_sets._PAGE", 2)
    for number in range(5):
        ahse("labels", "put", f"s{number}", "a", "b", "--data-dir", tmp_path)
    out = ahse("labels", "ls", "--data-dir", tmp_path)[1]
    assert [line.split()[0] for line in out.splitlines()] == [f"s{number}" for number in range(5)]


def test_a_running_service_sees_changes_of_its_data_directory(
    ahse: Ahse, toy_bundle: Path, tmp_path: Path
) -> None:
    """At its next request, and the other way round."""
    with serving(toy_bundle, tmp_path) as running, Client(str(running.base_url)) as client:
        for number in range(2):
            ahse("labels", "put", "s", "dog", f"cat {number}", "--data-dir", tmp_path)
            assert client.label_set("s").labels[1].name == f"cat {number}"
        client.add_labels("s", ["cow"])
        assert ahse("labels", "get", "s", "--data-dir", tmp_path)[1] == "dog\ncat 1\ncow\n"
