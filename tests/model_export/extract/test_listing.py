"""Which files are clips, of which class: found in folders or named by a CSV."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from model_export.errors import DatasetError
from model_export.extract.listing import list_clips, list_unlabelled


def touch(root: Path, *names: str) -> Path:
    """Empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write_csv(folder: Path, text: str) -> Path:
    """clips.csv with a text."""
    path = folder / "clips.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_folder_is_a_class_and_hidden_or_stray_files_are_counted(tmp_path: Path) -> None:
    """Clips may lie deeper; the class is the outermost folder, in the form that labels have."""
    root = touch(
        tmp_path,
        "a  dog barks/1.mp4",
        "a  dog barks/more/2.mkv",
        "rain/1.mp4",
        "rain/.DS_Store",
        ".git/rain/3.mp4",
        "notes.txt",
    )
    found = list_clips(root)
    assert [(clip.name, clip.label) for clip in found.clips] == [
        ("a  dog barks/1.mp4", "a dog barks"),
        ("a  dog barks/more/2.mkv", "a dog barks"),
        ("rain/1.mp4", "rain"),
    ]
    assert found.from_folder
    assert found.n_ignored == 3


def test_a_csv_names_clips_beside_it(tmp_path: Path) -> None:
    """Paths are relative to the CSV or absolute; other columns and a byte-order mark do no harm."""
    path = write_csv(tmp_path, f"\ufefflabel,path,by\nrain,b.mp4,x\n rain ,{tmp_path}/a.mp4,y\n")
    found = list_clips(path)
    assert [(clip.path, clip.label, clip.split) for clip in found.clips] == [
        (tmp_path / "a.mp4", "rain", None),
        (tmp_path / "b.mp4", "rain", None),
    ]
    assert not found.from_folder


def test_a_csv_may_give_the_split(tmp_path: Path) -> None:
    """Three words, or the five names."""
    path = write_csv(tmp_path, "path,label,split\na.mp4,rain,train\nb.mp4,rain,test_seen\n")
    assert [clip.split for clip in list_clips(path).clips] == ["train", "test_seen"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,class\na.mp4,rain\n", "has no column label; its first row is 'path', 'class'"),
        ("path,label\n", "holds no clip; it should have a row for each clip"),
        ("path,label\na.mp4,rain\na.mp4,rain\n", "a.mp4: is listed twice"),
        ("path,label\na.mp4,\n", "a.mp4: a label is empty"),
        ("path,label\n,rain\n", "a row without a path: its label is 'rain'"),
        ("path,label\na.mp4,rain\nb.mp4,Rain\n", "labels 'rain' and 'Rain' differ in case or spacing only"),
        ("path,label,split\na.mp4,rain,dev\n", "split 'dev' is none of train, val, test, train, val_seen"),
        ("path,label,split\na.mp4,rain\n", "split '' is none of"),
        ("path,label\na.mp4,rain, heavy\n", "a.mp4: has more fields than the first row; quote a value"),
        ("path,label\na.mp4,rain\n./a.mp4,rain\n", "a.mp4: is the same file as ./a.mp4"),
        ("path,class\n", "has no column label; its first row is 'path', 'class'"),
        ("\na.mp4,rain\n", "has no column path and no column label"),
        ("", "holds no clip; it should have a row for each clip"),
    ],
)
def test_each_fault_of_a_csv_is_reported(tmp_path: Path, text: str, said: str) -> None:
    """One line for each fault."""
    with pytest.raises(DatasetError) as error:
        list_clips(write_csv(tmp_path, text))
    assert said in str(error.value)
    assert len(error.value.problems) == 1


def test_all_faults_of_a_csv_are_reported_at_once(tmp_path: Path) -> None:
    """An empty label here, a clip twice there, a comma without quotes in two rows."""
    text = "path,label\na.mp4,\nb.mp4,rain\nb.mp4,rain\nc.mp4,rain, heavy\nd.mp4,rain, light\n"
    with pytest.raises(DatasetError) as error:
        list_clips(write_csv(tmp_path, text))
    assert len(error.value.problems) == 4


def test_empty_fields_beyond_the_last_column_are_no_fault(tmp_path: Path) -> None:
    """As spreadsheets write them; nothing is lost."""
    (clip,) = list_clips(write_csv(tmp_path, "path,label\na.mp4,rain,,\n")).clips
    assert clip.label == "rain"


@pytest.mark.parametrize("other", ["{root}/a.mp4", "more/../a.mp4", "link.mp4"])
def test_a_file_is_one_clip_by_whatever_path(tmp_path: Path, other: str) -> None:
    """Else it could be in train and test."""
    touch(tmp_path, "a.mp4", "more/b.mp4")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    named = other.format(root=tmp_path)
    path = write_csv(tmp_path, f"path,label,split\na.mp4,rain,train\n{named},rain,test\n")
    with pytest.raises(DatasetError, match="is the same file as"):
        list_clips(path)


def test_a_link_in_a_folder_is_the_file_that_it_leads_to(tmp_path: Path) -> None:
    """Also in the folder of another class."""
    touch(tmp_path, "rain/a.mp4", "wind/b.mp4")
    (tmp_path / "wind" / "a.mp4").symlink_to(tmp_path / "rain" / "a.mp4")
    with pytest.raises(DatasetError, match=r"wind/a\.mp4: is the same file as rain/a\.mp4"):
        list_clips(tmp_path)


def test_links_to_folders_are_followed_at_the_top_and_named_below(tmp_path: Path) -> None:
    """A class folder may be a link; deeper down links may lead in circles, and one to the top does."""
    root = touch(tmp_path / "clips", "rain/a.mp4", "rain/more/b.mp4")
    touch(tmp_path / "store", "wind/c.mp4")
    (root / "wind").symlink_to(tmp_path / "store" / "wind")
    (root / ".cache").symlink_to(tmp_path / "store")
    (root / "rain" / "up").symlink_to(root)
    for found in (list_clips(root), list_unlabelled(root)):
        assert [clip.name for clip in found.clips] == ["rain/a.mp4", "rain/more/b.mp4", "wind/c.mp4"]
        assert [str(one) for one in found.not_entered] == [
            f"{root}/rain/up: a link to a folder; only links beside the class folders are followed"
        ]
    (root / "rain" / "a again.mp4").symlink_to(root / "rain" / "a.mp4")
    assert len(list_unlabelled(root).clips) == 3


def test_a_folder_that_can_not_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the rights of who runs this; if nothing else is there, it is the reason."""
    root, scandir = touch(tmp_path, "rain/a.mp4", "wind/b.mp4"), os.scandir

    def denied(folder: str) -> Any:
        if folder.endswith("wind"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", denied)
    assert [clip.name for clip in list_clips(root).clips] == ["rain/a.mp4"]
    what = f"{root}/wind: the folder can't be opened: Permission denied"
    assert [str(one) for one in list_clips(root).not_entered] == [what]
    (root / "rain" / "a.mp4").unlink()
    with pytest.raises(DatasetError, match=re.escape(what)):
        list_clips(root)


def test_the_clips_of_a_folder_are_in_the_order_in_which_a_feature_file_is_split(tmp_path: Path) -> None:
    """By name, in which a slash comes after a dash: the same seed then gives the same splits."""
    touch(tmp_path, "rain/a/1.mp4", "rain/a-1.mp4", "rain/a.mp4", "rain hard/1.mp4")
    names = [clip.name for clip in list_clips(tmp_path).clips]
    assert names == ["rain hard/1.mp4", "rain/a-1.mp4", "rain/a.mp4", "rain/a/1.mp4"]


def test_a_name_that_is_not_utf_8_is_listed_with_escapes(tmp_path: Path) -> None:
    """As a class it is refused, since no encoder could read it."""
    name = os.fsdecode(b"caf\xe9.mp4")
    touch(tmp_path, f"rain/{name}")
    (clip,) = list_clips(tmp_path).clips
    assert (clip.path, clip.name) == (tmp_path / "rain" / name, r"rain/caf\xe9.mp4")
    touch(tmp_path, f"{name}/a.mp4")
    with pytest.raises(DatasetError, match="surrogate"):
        list_clips(tmp_path)


def test_no_path_is_too_odd_to_be_listed(tmp_path: Path) -> None:
    """Too long for a file, with a NUL, or a link to itself: extraction reports them."""
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    names = ["a" * 300 + ".mp4", "b\0.mp4", "loop.mp4"]
    path = write_csv(tmp_path, "\n".join(["path,label", *(f"{name},rain" for name in names)]))
    assert [clip.name for clip in list_clips(path).clips] == names


STILL = b"\xff\xd8\xff\xe0 a thumbnail"


def test_still_images_of_folders_are_counted_and_left_out(tmp_path: Path) -> None:
    """By their content, with labels and without; one that a CSV names is a clip."""
    touch(tmp_path, "rain/a.mp4", "rain/b.mp4")
    (tmp_path / "rain" / "a.jpg").write_bytes(STILL)
    (tmp_path / "rain" / "a").write_bytes(STILL)
    for found in (list_clips(tmp_path), list_unlabelled(tmp_path)):
        assert [clip.name for clip in found.clips] == ["rain/a.mp4", "rain/b.mp4"]
        assert (found.n_ignored, found.n_images) == (2, 2)
    named = list_clips(write_csv(tmp_path, "path,label\nrain/a.jpg,rain\n"))
    assert [clip.name for clip in named.clips] == ["rain/a.jpg"]


def test_a_folder_of_still_images_is_refused(tmp_path: Path) -> None:
    """And the reason is said."""
    touch(tmp_path, "rain/a.jpg")
    (tmp_path / "rain" / "a.jpg").write_bytes(STILL)
    with pytest.raises(DatasetError, match="its 1 still images count as clips only in a CSV"):
        list_clips(tmp_path)
    with pytest.raises(DatasetError, match="holds 1 still images and no clip"):
        list_unlabelled(tmp_path)


def test_a_source_without_clips_is_refused(tmp_path: Path) -> None:
    """Nothing there, an empty folder, clips outside of folders, and a clip in place of a CSV."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.mp4").write_bytes(bytes(range(256)))
    touch(tmp_path / "flat", "a.mp4")
    said = {"none": "no such file", "empty": "a folder for each class", "flat": "a folder for each class"}
    for name, what in {**said, "clip.mp4": "neither a folder nor a CSV"}.items():
        with pytest.raises(DatasetError, match=what):
            list_clips(tmp_path / name)


def test_every_file_that_is_not_hidden_is_listed(tmp_path: Path) -> None:
    """At any depth, in order; no folder stands for a class here."""
    for name in ("b.mp4", "deep/er/a.mp4", ".hidden/c.mp4", "deep/.d.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list_unlabelled(tmp_path)
    assert [clip.name for clip in found.clips] == ["b.mp4", "deep/er/a.mp4"]
    assert found.n_ignored == 2
    with pytest.raises(DatasetError, match="no such folder"):
        list_unlabelled(tmp_path / "nowhere")
