"""Files that cannot be written are refused before the work, and full disks in one line."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest
import soundfile
import torch

from wand.cli import main
from wand.files.audio import check_sound_file, sound_writer, write_audio
from wand.files.writing import check_folder, check_writable

FULL = Path("/dev/full")  # every write to it fails as on a full disk


@pytest.mark.parametrize("name", ["a.wav", "a b/ü.flac", "A.OGG", "new/folder/a.mp3", "a.aiff"])
def test_sound_can_be_written(name: str, tmp_path: Path) -> None:
    check_sound_file(tmp_path / name)
    assert not list(tmp_path.iterdir())
    write_audio(tmp_path / name, torch.zeros(2400), 24_000)
    assert (tmp_path / name).stat().st_size


@pytest.mark.parametrize("name", ["speech", "a.m4a", "folder", "folder.wav", "a.raw", "", "file/a.wav"])
def test_sound_cannot_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "file").touch()
    words = {"": "suffix", "file/a.wav": "is a file, not a folder"}.get(name, name)
    with pytest.raises(ValueError, match=words):
        check_sound_file(tmp_path / name)


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_folder(tmp_path / "new" / "er")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file, not a folder"):
        check_folder(tmp_path / "file" / "out")
    check_writable(tmp_path / "new.txt")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # tests may run as root, who may write anywhere
    with pytest.raises(ValueError, match="is read-only"):
        check_folder(tmp_path)


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "a.wav").symlink_to(FULL)
    with pytest.raises(OSError, match="No space left"):
        write_audio(tmp_path / "a.wav", torch.zeros(99_999), 24_000)


def test_what_fits_on_the_disk_is_kept(tmp_path: Path) -> None:
    path, second = tmp_path / "a.wav", 0.1 * torch.randn(24_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, hard))
    try:
        with sound_writer(path, 24_000) as write:
            for _ in range(4):
                write(second)
            with pytest.raises(ValueError, match=r"a\.wav cannot be written .*: free some space"):
                write(second.repeat(9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept, _ = soundfile.read(path, dtype="float32")
    assert len(kept) > 4 * 24_000
    assert torch.allclose(torch.from_numpy(kept[:24_000]), second, atol=1e-4)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "another disk"), (errno.EACCES, "that you may use")],
)
def test_errors_of_the_system_are_one_line(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "what the system says", "some/file")

    monkeypatch.setattr("wand.cli._run", fail)
    assert main(["fit"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("wand: error: some/file: what the system says")
    assert words in printed
    assert printed.count("\n") == 1
