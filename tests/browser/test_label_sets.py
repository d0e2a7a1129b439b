"""Label sets on the page: made, looked at, changed, copied, used and deleted; conflicts are told."""

from __future__ import annotations

import httpx2
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.steps import HARP, choose, classify, press


@pytest.fixture
def beads(service: str) -> None:
    """There is one label set, `beads`."""
    for one in httpx2.get(f"{service}v1/label-sets").json()["label_sets"]:
        httpx2.delete(f"{service}v1/label-sets/{one['name']}")
    labels = ["bead with a harp", {"name": "bead with a bell", "prompts": ["a drop that rings"]}]
    httpx2.put(
        f"{service}v1/label-sets/beads", json={"labels": labels, "templates": ["a {}"]}
    ).raise_for_status()


@pytest.fixture
def sets(beads: None, page: Page) -> Page:  # noqa: ARG001  (before the page is opened)
    """The view of label sets."""
    page.get_by_role("link", name="Label sets").click()
    return page


def names_of(service: str, name: str) -> list[str]:
    """Names that the service has in a set."""
    return [one["name"] for one in httpx2.get(f"{service}v1/label-sets/{name}").json()["labels"]]


def test_a_set_is_made_and_used(sets: Page, service: str) -> None:
    """From a name and lines to an answer with it."""
    sets.get_by_label("Name of the set").fill("shapes")
    sets.get_by_label("Its names, one a line").fill("bead with a harp\n\n star with an ember \n")
    sets.get_by_role("button", name="Make the set").click()
    expect(sets.get_by_text("“shapes” was made")).to_be_visible()
    expect(sets.get_by_role("heading", name="2 label sets")).to_be_visible()
    assert names_of(service, "shapes") == ["bead with a harp", "star with an ember"]
    sets.get_by_role("button", name="Classify with it").click()
    expect(sets.get_by_label("Choose from")).to_have_value("shapes")
    sets.locator("input[type=file]").set_input_files(HARP)
    answer = classify(sets)
    assert (answer["label_set"], answer["n_labels"]) == ("shapes", 2)


def test_names_are_added_and_removed(sets: Page, service: str) -> None:
    """One after the other, each on top of the last change."""
    sets.get_by_role("button", name="beads").click()
    sets.get_by_label("More names, one a line").fill("50 % / 100 %?\n..\n#9")
    sets.get_by_role("button", name="Add to the set").click()
    expect(sets.get_by_text("3 names added")).to_be_visible()
    sets.get_by_role("button", name="Remove ..", exact=True).click()
    expect(sets.get_by_text("“..” removed")).to_be_visible()
    sets.get_by_role("button", name="Remove 50 % / 100 %?").click()
    expect(sets.get_by_text("“50 % / 100 %?” removed")).to_be_visible()
    sets.get_by_role("button", name="Remove bead with a harp").click()
    expect(sets.get_by_text("“bead with a harp” removed")).to_be_visible()
    assert names_of(service, "beads") == ["bead with a bell", "#9"]


def test_names_are_taken_as_the_box_of_names_takes_them(sets: Page, service: str) -> None:
    """Each once, a line with commas after a question; it is said how many are new."""
    sets.get_by_label("Name of the set").fill("animals")
    lines, more = sets.get_by_label("Its names, one a line"), sets.get_by_label("More names, one a line")
    lines.fill("dog, cat")
    sets.get_by_role("button", name="Make the set").click()
    expect(sets.get_by_text("Is this one name or 2?")).to_be_visible()
    lines.fill("dog\ncat\nDog")
    expect(sets.get_by_text("Is this one name or 2?")).to_have_count(0)
    sets.get_by_role("button", name="Make the set").click()
    expect(sets.get_by_text("“animals” was made")).to_be_visible()
    assert names_of(service, "animals") == ["dog", "cat"]
    more.fill("Dog\nwolf")
    sets.get_by_role("button", name="Add to the set").click()
    expect(sets.get_by_text("1 name added; 1 name was there already")).to_be_visible()
    more.fill("a, b, c")
    sets.get_by_role("button", name="Add to the set").click()
    sets.get_by_role("button", name="Split into 3 names").click()
    expect(sets.get_by_text("3 names added", exact=True)).to_be_visible()
    assert names_of(service, "animals") == ["dog", "cat", "wolf", "a", "b", "c"]


def test_sets_that_others_make_and_delete_are_seen(sets: Page, service: str) -> None:
    """The list is read when its view opens, and when a set turns out to be gone."""
    sets.get_by_role("link", name="Classify a clip").click()
    httpx2.put(f"{service}v1/label-sets/theirs", json={"labels": ["a"]}).raise_for_status()
    sets.get_by_role("link", name="Label sets").click()
    expect(sets.get_by_role("button", name="theirs")).to_be_visible()
    httpx2.delete(f"{service}v1/label-sets/theirs").raise_for_status()
    sets.get_by_role("button", name="theirs").click()
    fault = sets.get_by_role("alert")
    expect(fault).to_contain_text("There is no such label set any more")
    expect(sets.get_by_role("button", name="theirs")).to_have_count(0)
    sets.get_by_role("button", name="beads").click()
    expect(fault).to_have_count(0)
    sets.get_by_role("button", name="Classify with it").click()
    httpx2.delete(f"{service}v1/label-sets/beads").raise_for_status()
    choose(sets, HARP)
    sets.get_by_role("button", name="Classify", exact=True).click()
    expect(fault).to_contain_text("There is no such label set any more")
    expect(fault).not_to_contain_text("PUT")
    expect(sets.get_by_label("Choose from", exact=True)).to_have_count(0)
    expect(sets.get_by_label("Names to choose from")).to_be_visible()


def test_a_copy_has_prompts_and_templates_too(sets: Page, service: str) -> None:
    """That is how a set gets another name."""
    sets.get_by_role("button", name="beads").click()
    sets.get_by_label("Save a copy under another name").fill("drops")
    sets.get_by_role("button", name="Save the copy").click()
    expect(sets.get_by_text("“drops” is a copy of “beads”")).to_be_visible()
    kept, copied = (httpx2.get(f"{service}v1/label-sets/{name}").json() for name in ("beads", "drops"))
    assert (copied["labels"], copied["templates"]) == (kept["labels"], kept["templates"])


def test_a_set_is_deleted_only_when_that_is_meant(sets: Page, service: str) -> None:
    """The focus is on keeping it."""
    sets.get_by_role("button", name="beads").click()
    sets.get_by_role("button", name="Delete this set…").click()
    expect(sets.get_by_text("Delete “beads” with its 2 names?")).to_be_visible()
    expect(sets.get_by_role("button", name="Keep it")).to_be_focused()
    sets.keyboard.press("Enter")
    assert httpx2.get(f"{service}v1/label-sets/beads").status_code == 200
    sets.get_by_role("button", name="Delete this set…").click()
    sets.get_by_role("button", name="Delete it").click()
    expect(sets.get_by_role("heading", name="There is no label set yet")).to_be_visible()
    assert httpx2.get(f"{service}v1/label-sets/beads").status_code == 404


def test_changes_of_a_set_leave_the_focus_beside_them(sets: Page, service: str) -> None:
    """Its names, what is added to it, its end."""
    sets.get_by_role("button", name="beads").click()
    more = sets.get_by_label("More names, one a line")
    more.fill("leaf\nmoon")
    press(sets.get_by_role("button", name="Add to the set"))
    expect(sets.get_by_text("2 names added")).to_be_visible()
    expect(more).to_be_focused()
    press(sets.get_by_role("button", name="Remove leaf"))
    expect(sets.get_by_role("button", name="Remove moon")).to_be_focused()
    press(sets.get_by_role("button", name="Remove moon"))
    expect(sets.get_by_role("button", name="Remove bead with a bell")).to_be_focused()
    assert names_of(service, "beads") == ["bead with a harp", "bead with a bell"]
    press(sets.get_by_role("button", name="Delete this set…"))
    press(sets.get_by_role("button", name="Delete it"))
    expect(sets.get_by_role("heading", name="There is no label set yet")).to_be_focused()


def test_the_question_before_a_set_is_deleted_takes_the_focus_once(sets: Page) -> None:
    """What is typed elsewhere meanwhile goes there; Escape is a no."""
    sets.get_by_role("button", name="beads").click()
    end, keep = (sets.get_by_role("button", name=name) for name in ("Delete this set…", "Keep it"))
    press(end)
    expect(keep).to_be_focused()
    more = sets.get_by_label("More names, one a line")
    more.focus()
    sets.keyboard.type("wolf howling")
    expect(more).to_have_value("wolf howling")
    press(keep)
    expect(end).to_be_focused()
    press(end)
    expect(keep).to_be_focused()
    sets.keyboard.press("Escape")
    expect(end).to_be_focused()
    expect(sets.get_by_role("alertdialog")).to_have_count(0)


def test_what_someone_else_changed_meanwhile_is_not_overwritten(sets: Page, service: str) -> None:
    """The conflict is told; after reading again the change that was typed can be made."""
    sets.get_by_role("button", name="beads").click()
    sets.get_by_label("More names, one a line").fill("mine")
    httpx2.post(f"{service}v1/label-sets/beads/labels", json={"labels": ["theirs"]}).raise_for_status()
    sets.get_by_role("button", name="Add to the set").click()
    conflict = sets.get_by_role("alert")
    expect(conflict).to_contain_text("Someone else has changed “beads” since you read it.")
    expect(conflict).to_contain_text("precondition_failed")
    assert "mine" not in names_of(service, "beads")
    conflict.get_by_role("button", name="Read it again").click()
    expect(sets.locator(".chip").filter(has_text="theirs")).to_be_visible()
    expect(conflict).to_have_count(0)
    sets.get_by_role("button", name="Add to the set").click()
    expect(sets.get_by_text("1 name added")).to_be_visible()
    assert names_of(service, "beads")[-2:] == ["theirs", "mine"]


def test_a_change_whose_result_can_not_be_read_was_made(sets: Page, service: str) -> None:
    """It is said so. The set is closed, since what was read of it is old; opened again it has no conflict."""
    sets.get_by_role("button", name="beads").click()

    def lose_what_is_read(route: Route) -> None:
        if route.request.method == "GET":
            route.abort()
        else:
            route.continue_()

    sets.route("**/v1/label-sets/beads", lose_what_is_read)
    sets.get_by_label("More names, one a line").fill("mine")
    sets.get_by_role("button", name="Add to the set").click()
    expect(sets.get_by_text("1 name added")).to_be_visible()
    expect(sets.get_by_role("alert")).to_contain_text("The connection to the service was lost.")
    expect(sets.get_by_role("heading", name="beads", exact=True)).to_have_count(0)
    expect(sets.get_by_role("button", name="beads")).to_contain_text("3 names")
    sets.unroute_all()
    sets.get_by_role("button", name="beads").click()
    sets.get_by_role("button", name="Remove mine").click()
    expect(sets.get_by_text("“mine” removed")).to_be_visible()
    assert names_of(service, "beads") == ["bead with a harp", "bead with a bell"]


def test_a_name_that_is_taken_is_not_replaced(sets: Page, service: str) -> None:
    """Nor is what was typed lost."""
    sets.get_by_label("Name of the set").fill("beads")
    sets.get_by_role("button", name="Make the set").click()
    fault = sets.get_by_role("alert")
    expect(fault).to_contain_text("There is a label set “beads” already; choose another name.")
    expect(sets.get_by_label("Name of the set")).to_have_value("beads")
    sets.get_by_role("button", name="beads").click()
    expect(fault).to_have_count(0)
    sets.get_by_label("Save a copy under another name").fill("beads")
    sets.get_by_role("button", name="Save the copy").click()
    expect(fault).to_contain_text("There is a label set “beads” already; choose another name.")
    expect(fault).not_to_contain_text("Someone else")
    assert len(names_of(service, "beads")) == 2


def test_a_wrong_name_is_refused_in_the_services_words(sets: Page) -> None:
    """What is allowed is said."""
    sets.get_by_label("Name of the set").fill("my set/1")
    sets.get_by_role("button", name="Make the set").click()
    expect(sets.get_by_role("alert")).to_contain_text(
        "use 1 to 100 letters, digits, dots, dashes and underscores"
    )


def test_a_long_set_is_shown_in_part_and_searched(sets: Page, service: str) -> None:
    """Ten thousand chips would freeze the page."""
    labels = [f"name {i}" for i in range(1200)]
    httpx2.put(f"{service}v1/label-sets/long", json={"labels": labels}).raise_for_status()
    sets.reload()
    sets.get_by_role("button", name="long").click()
    expect(sets.locator(".chip")).to_have_count(200)
    expect(sets.get_by_text("and 1000 more")).to_be_visible()
    sets.get_by_label("Find a name").fill("e 119")
    expect(sets.locator(".chip")).to_have_count(11)


def test_names_are_made_comparable_once_and_only_to_search(sets: Page, service: str) -> None:
    """Not at each key that is pressed: of 100,000 names that would take a third of a second."""
    labels = [f"name {i}" for i in range(100)]
    httpx2.put(f"{service}v1/label-sets/long", json={"labels": labels}).raise_for_status()
    sets.reload()
    sets.evaluate(
        """() => {
            window.nNormalized = 0;
            const normalize = String.prototype.normalize;
            String.prototype.normalize = function (form) {
                if (this.startsWith("name ")) window.nNormalized += 1;
                return normalize.call(this, form);
            };
        }"""
    )
    sets.get_by_role("button", name="long").click()
    expect(sets.locator(".chip")).to_have_count(100)
    sets.get_by_label("More names, one a line").fill("more")
    expect(sets.get_by_role("button", name="Add to the set")).to_be_enabled()
    assert sets.evaluate("window.nNormalized") == 0
    for wanted, n_found in (("e", 100), ("e 9", 11), ("e 99", 1)):
        sets.get_by_label("Find a name").fill(wanted)
        expect(sets.locator(".chip")).to_have_count(n_found)
    assert sets.evaluate("window.nNormalized") == 100
