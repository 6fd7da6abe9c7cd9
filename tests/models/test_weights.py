"""Weights from files: tensors to the last bit, and nothing that could run."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from plumbline.models.weights import load_weights

STATE = {"key_query": torch.randn(2, 1, 3, 3, dtype=torch.float64), "value": torch.randn(3, dtype=torch.float32)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder."""
    monkeypatch.chdir(tmp_path)


class Runs:
    """Unpickled, it would make a file."""

    def __reduce__(self):
        return os.mkdir, ("made-by-the-pickle",)


def test_weights_come_back_from_both_kinds_of_files():
    """torch.save and safetensors, to the last bit."""
    torch.save(STATE, "weights.pt")
    save_file(STATE, "weights.safetensors")
    for name in ("weights.pt", "weights.safetensors"):
        found = load_weights(name)
        assert found.keys() == STATE.keys()
        assert all(
            torch.equal(found[key], tensor) and found[key].dtype == tensor.dtype for key, tensor in STATE.items()
        )


def save_bare(value, path):
    """A pickle that torch had no part in."""
    Path(path).write_bytes(pickle.dumps(value))


def load_bare(path):
    """With nothing refused."""
    return pickle.loads(Path(path).read_bytes())


@pytest.mark.parametrize(
    ("save", "load"), [(torch.save, lambda path: torch.load(path, weights_only=False)), (save_bare, load_bare)]
)
def test_a_pickle_that_runs_is_refused_and_does_not_run(save, load):
    """In torch's format and bare. Loaded without care the same file makes the folder: the test can fail."""
    save({"key_query": Runs()}, "evil.pt")
    with pytest.raises(ValueError, match=r"tensors only.*was not loaded; save model.state_dict\(\)"):
        load_weights("evil.pt")
    assert not Path("made-by-the-pickle").exists()

    load("evil.pt")
    assert Path("made-by-the-pickle").exists()


def test_a_whole_module_is_refused_by_name():
    """torch.save(model) needs code to load."""
    torch.save(torch.nn.Linear(2, 2), "model.pt")
    with pytest.raises(ValueError, match=r"tensors only.*Linear.*save model.state_dict"):
        load_weights("model.pt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing.pt", None, "must be an existing file, got 'nothing.pt'"),
        ("empty.pt", b"", "a file that torch.save wrote, got 'empty.pt'"),
        ("text.pt", b"hello", "a file that torch.save wrote, got 'text.pt'"),
        ("text.safetensors", b"hello there", "in the format of safetensors, got 'text.safetensors'"),
        ("list.pt", [torch.zeros(2)], "state dict (tensors by name), got list"),
        ("none.pt", {}, "state dict (tensors by name), got dict"),
        ("step.pt", {"step": 3}, "tensors by name, as model.state_dict() does, got int under 'step'"),
        ("whole.pt", {"key_query": torch.zeros(2, dtype=torch.int64)}, "floating-point tensors, got torch.int64"),
    ],
)
def test_files_that_hold_no_weights(name, content, message):
    """Each is named, with what it holds."""
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    elif content is not None:
        torch.save(content, name)
    with pytest.raises(ValueError) as caught:
        load_weights(name)
    assert message in str(caught.value)


def test_missing_safetensors_names_the_extra(monkeypatch):
    """The import is optional."""
    monkeypatch.setitem(sys.modules, "safetensors", None)
    Path("weights.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"need safetensors: pip install 'plumbline-theory\[models\]'"):
        load_weights("weights.safetensors")
