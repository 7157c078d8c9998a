"""Files of weights: their dtype, and files that are damaged or old."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wand.files.weights import read_weights, stored_dtype, weight_files


def test_the_dtype_is_that_of_most_weights(tmp_path: Path) -> None:
    tensors = {
        "layers.0.rotary_emb.inv_freq": torch.ones(4),
        "positions": torch.arange(1000),
        "weight": torch.ones(20, 20, dtype=torch.bfloat16),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    assert stored_dtype(tmp_path) == torch.bfloat16


@pytest.mark.parametrize("tensors", [{}, {"positions": torch.arange(3)}], ids=["none", "integers"])
def test_a_file_without_weights_has_no_dtype(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="has no weights in F16"):
        stored_dtype(tmp_path)


@pytest.mark.parametrize("index", ['{"weight_map": {"a": 1}}', '{"weight_map": {}}', '{"weight_map": []}', "{}", "[]"])
def test_an_index_without_parts_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=r"index\.json"):
        weight_files(tmp_path)


def test_a_file_of_old_torch_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "old.pth")["a"].tolist() == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("new", [True, False], ids=["new", "old"])
def test_flipped_bytes_give_one_line(tmp_path: Path, new: bool) -> None:
    path, chance = tmp_path / "weights.pt", random.Random(0)
    torch.save({f"layer.{i}": torch.ones(2) for i in range(8)}, path, _use_new_zipfile_serialization=new)
    whole, said = path.read_bytes(), []
    for _ in range(300):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        try:
            read_weights(path)
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 50
    assert [line for line in said if not line.startswith(str(path)) or "\n" in line] == []
