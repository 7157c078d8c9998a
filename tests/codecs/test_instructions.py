"""docs/adapt-a-model.md fits the shipped configs."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "adapt-a-model.md").read_text()
CONFIGS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "configs").glob("*.yaml")}
CODECS = [
    config["data"]["codec"]["init_args"]
    for config in CONFIGS.values()
    if "WorkerCodec" in str(config.get("data", {}).get("codec", ""))
]


def test_every_shipped_release_has_a_download_command() -> None:
    folders = {
        config["model"]["backbone"].get("init_args", {}).get("pretrained")
        for config in CONFIGS.values()
        if "backbone" in config.get("model", {})
    } - {None, "embedded"}
    assert len(folders) == 6
    downloaded = set(re.findall(r"^hf download \S+ --local-dir (\S+)", PAGE, flags=re.MULTILINE))
    assert folders <= downloaded
    assert {codec["release"] for codec in CODECS} <= downloaded


def test_environments_lie_where_the_configs_look() -> None:
    made = set(re.findall(r"^conda create -y -p (\S+)", PAGE, flags=re.MULTILINE))
    cloned = set(re.findall(r"^git clone .*https://\S+ (\S+)$", PAGE, flags=re.MULTILINE))
    assert {codec["python"] for codec in CODECS} == {f"{folder}/bin/python" for folder in made}
    assert {codec["repository"] for codec in CODECS} == cloned
    assert "--branch v1.5.0 https://github.com/index-tts/index-tts" in PAGE
