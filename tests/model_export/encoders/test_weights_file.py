"""Weights are read without running anything, and must fit to the last tensor."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model_export.encoders.weights_file import load_all, read_state
from model_export.errors import EncoderError


class Small(nn.Module):
    """Two layers."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(2, width)
        self.second = nn.Linear(width, 1)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_training_checkpoint_with_numbers_around_it(tmp_path: Path) -> None:
    """As LAION writes them: `module.` before each name, epochs and numpy scores beside the weights."""
    weights = Small().state_dict()
    content = {
        "epoch": 3,
        "best": np.float64(0.5),
        "name": "run",
        "state_dict": {f"module.{name}": value for name, value in weights.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": np.float32(0.1)}]},
    }
    torch.save(content, tmp_path / "a.pt")
    found = read_state(tmp_path / "a.pt")
    assert found.keys() == weights.keys()
    assert torch.equal(found["first.weight"], weights["first.weight"])


def test_safetensors(tmp_path: Path) -> None:
    """By the name's end."""
    save_file(Small().state_dict(), tmp_path / "a.safetensors")
    assert read_state(tmp_path / "a.safetensors").keys() == Small().state_dict().keys()


def test_nothing_in_the_file_runs(tmp_path: Path) -> None:
    """Refused, and the command was not run."""
    torch.save({"state_dict": Evil(tmp_path / "ran")}, tmp_path / "a.pt")
    with pytest.raises(EncoderError, match=r"a\.pt can't be read as weights"):
        read_state(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"no weights at all"])
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_damaged_file(tmp_path: Path, name: str, content: bytes) -> None:
    """One error, whatever the library says."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EncoderError, match="can't be read as weights"):
        read_state(tmp_path / name)


def test_a_whole_module_and_a_list_are_no_weights(tmp_path: Path) -> None:
    """One would run code, the other has no names."""
    torch.save(Small(), tmp_path / "module.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(EncoderError, match="can't be read as weights"):
        read_state(tmp_path / "module.pt")
    with pytest.raises(EncoderError, match="holds no weights"):
        read_state(tmp_path / "list.pt")


def test_weights_of_another_architecture_are_told_apart_in_one_line() -> None:
    """Missing, unknown and misshapen ones, some by name."""
    state = Small(width=4).state_dict()
    del state["second.bias"]
    state["third.weight"] = torch.zeros(1)
    with pytest.raises(EncoderError) as raised:
        load_all(Small(), state, "small net", "a.pt")
    assert raised.value.message == (
        "a.pt is no small net: 1 weights missing (second.bias); 1 weights not known to it (third.weight); "
        "3 weights of another shape (first.weight [4, 2] instead of [3, 2], first.bias [4] instead of [3], "
        "second.weight [1, 4] instead of [1, 3]). Name the architecture that it was trained with"
    )


def test_long_lists_are_cut() -> None:
    """Three names are enough."""
    with pytest.raises(
        EncoderError, match=r"4 weights missing \(first\.weight, first\.bias, second\.weight and 1 more\)"
    ):
        load_all(Small(), {}, "small net", "a.pt")


def test_position_ids_may_be_there_and_half_precision_is_widened() -> None:
    """Older files of transformers have them."""
    state = {name: value.half() for name, value in Small().state_dict().items()}
    module = Small()
    load_all(module, state | {"text.embeddings.position_ids": torch.arange(3)}, "small net", "a.pt")
    assert module.first.weight.dtype == torch.float32
    assert torch.equal(module.first.weight, state["first.weight"].float())
