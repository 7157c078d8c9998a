"""Read YAML and JSON: plain values only, within limits that no honest file reaches."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20
YAML_BYTES, JSON_BYTES = MEBIBYTE // 4, 64 * MEBIBYTE
DEPTH = 64
# Values of a YAML file, each alias counted with all that it stands for.
VALUES = 50_000


def read_plain(path: Path, limit: int) -> bytes:
    """Read a small file as a whole.

    Raises:
        ValueError: If it cannot be read, or has more than `limit` bytes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > limit:
        raise ValueError(f"{path} is too large: such a file has at most {limit // 1024} KiB")
    return content


def read_yaml(path: Path, scalars: bool = False) -> Any:
    """Read a YAML file. Interpolations stay as they are written.

    Args:
        path: The file.
        scalars: Whether the file may also be one number, or null.

    Raises:
        ValueError: If it is not YAML, or exceeds a limit.
    """
    return parse_yaml(read_plain(path, YAML_BYTES), path, scalars)


def parse_yaml(content: bytes, where: str | Path, scalars: bool = False) -> Any:
    """The plain values of YAML. Interpolations stay as they are written; errors name `where`.

    Args:
        content: The YAML.
        where: Where it is from.
        scalars: Whether it may also be one number, or null, which OmegaConf does not read.
    """
    # Imported here, so that a model with random weights needs only torch and transformers.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import SafeLoader, ScalarNode, YAMLError, compose, safe_load

    try:
        text = content.decode("utf-8-sig")
        check_yaml(text)
        if scalars and isinstance(compose(text, SafeLoader), ScalarNode):
            value = safe_load(text)
            if value is None or isinstance(value, int | float):
                return value
        return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
    except (YAMLError, OmegaConfBaseException, ValueError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise ValueError(f"{where} cannot be read: {_one_line(error)}") from error


def check_yaml(text: str) -> None:
    """Check, before any value is made, that YAML is neither deep nor grows when its aliases are replaced.

    Raises:
        ValueError: If it exceeds a limit, or an anchor contains itself.
        YAMLError: If it is not YAML.
    """
    import yaml

    sizes: dict[str, int | None] = {}  # of anchors; None while the anchored value is open
    opened: list[tuple[str | None, int]] = []  # anchor and number of values before
    total = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            if sizes.get(event.anchor, 0) is None:
                raise ValueError(f"the anchor &{event.anchor} contains itself")
            total += sizes.get(event.anchor) or 1
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, total))
            if event.anchor is not None:
                sizes[event.anchor] = None
            if len(opened) > DEPTH:
                raise ValueError(f"it is nested more than {DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            total += 1
            if anchor is not None:
                sizes[anchor] = total - before
        if total > VALUES:
            raise ValueError(f"it has more than {VALUES} values, its aliases included")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises:
        ValueError: If the file is damaged, does not contain an object, or exceeds a limit.
    """
    content = read_plain(path, JSON_BYTES)
    try:
        values = json.loads(content.decode("utf-8"))
        check_depth(values)
    except (ValueError, RecursionError) as error:  # not text, not JSON, or nested deeply
        raise ValueError(f"{path} is not JSON ({_one_line(error)}): download it again") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} does not contain a JSON object: download it again")
    return values


def check_depth(values: Any) -> None:
    """Check that plain values are not nested deeply.

    Raises:
        ValueError: If they are.
    """
    level = [values]
    for _ in range(DEPTH):
        level = [inner for value in level for inner in _parts(value)]
        if not level:
            return
    raise ValueError(f"it is nested more than {DEPTH} levels deep")


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
