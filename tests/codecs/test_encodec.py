"""Folders with an EnCodec of transformers: what is missing, damaged or elsewhere gets one line."""

from __future__ import annotations

import shutil
import socket
from contextlib import nullcontext
from pathlib import Path

import huggingface_hub
import pytest

from tests.damaged_models import change_config, cut_weights, leave_out
from wand.assets import asset_folder
from wand.codecs import EncodecCodec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded codec."""
    return Path(shutil.copytree(asset_folder("codec"), tmp_path / "codec"))


@pytest.mark.parametrize(
    ("without", "refused"), [("codebook.embed", True), ("lstm", True), ("bias", True), ("embed_avg", False)]
)
def test_a_codec_without_some_weights_is_refused(folder: Path, without: str, refused: bool) -> None:
    leave_out(folder, without)
    with pytest.raises(ValueError, match=rf"no weights '.*{without}") if refused else nullcontext():
        EncodecCodec(str(folder))


@pytest.mark.parametrize("damage", ["cut", "size", "config"])
def test_a_damaged_folder_is_refused_in_one_line(folder: Path, damage: str) -> None:
    if damage == "cut":
        cut_weights(folder)
    elif damage == "size":
        change_config(folder, codebook_size=512)
    else:
        change_config(folder, upsampling_ratios="x")
    with pytest.raises(ValueError, match="cannot be opened") as error:
        EncodecCodec(str(folder))
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)  # a request of its own, once a day
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("wand asked the network"))
    with pytest.raises(ValueError, match="'nowhere/encodec' cannot be opened"):
        EncodecCodec("nowhere/encodec")
