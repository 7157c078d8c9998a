"""The files of a test, whatever its sentences are called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.evaluation.tiny_test import examples, models
from tests.report.made import make_run
from wand.data.example import Example
from wand.evaluation.quality import Take
from wand.evaluation.result_files import read_result, write_speeches
from wand.evaluation.test import Speeches, TestSize
from wand.files.audio import read_audio
from wand.report.listening import of_test
from wand.report.page import write_report
from wand.report.source import find_source

RATE = 16_000
IDS = ["../../escaped", "/absolute/path", "x" * 250, "größe 1", "plain-1"]


def spoken(ids: list[str]) -> Speeches:
    first = examples(models()["teacher"])[0]
    kept = [Example(id, first.text, first.speaker, first.conditioning, first.codes) for id in ids]
    takes = [Take(id, "anna", 0, "one", "one", "stop token", 1.0, 1.0, 0, 3, 0, 1) for id in ids]
    sounds = [torch.full((RATE // 10,), (i + 1) / 10) for i in range(len(ids))]
    return Speeches({"teacher": takes}, {"teacher": sounds}, kept, RATE)


def test_sounds_of_any_id_are_in_the_folder_and_in_the_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "outer" / "run")
    folder = run / "test"
    write_speeches(spoken(IDS), TestSize(sounds=len(IDS), pictures=0), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["outer"]
    assert [path.name for path in (tmp_path / "outer").iterdir()] == ["run"]
    assert len([*(folder / "sounds").iterdir()]) == len(IDS)
    assert (folder / "sounds" / "plain-1-teacher.wav").is_file()
    found = {sentence.id: sentence for sentence in of_test(folder)}
    assert [*found] == IDS
    for i, id in enumerate(IDS):
        (sound,) = found[id].sounds
        assert read_audio(sound.file, RATE).mean().item() == pytest.approx((i + 1) / 10, abs=1e-3)
    assert write_report([find_source(run)], tmp_path / "report").is_file()


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": [{}], "won_back": {}}', '{"won_back": {}}'])
def test_a_damaged_table_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "table.json").write_text(content)
    with pytest.raises(ValueError, match=r"table\.json") as error:
        read_result(tmp_path)
    assert "\n" not in str(error.value)
