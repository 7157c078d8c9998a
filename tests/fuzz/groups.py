"""The groups by name."""

from __future__ import annotations

from tests.fuzz.artefacts import ArtefactGroup
from tests.fuzz.config import ConfigGroup
from tests.fuzz.harness import Group
from tests.fuzz.lists import ListGroup
from tests.fuzz.manifests import ManifestGroup
from tests.fuzz.options import OptionGroup
from tests.fuzz.sampling import SamplingGroup
from tests.fuzz.sounds import SoundGroup
from tests.fuzz.speech import SpeechGroup
from tests.fuzz.texts import TextGroup
from tests.fuzz.workers import WorkerGroup

GROUPS: dict[str, type[Group]] = {
    group.name: group
    for group in (
        ManifestGroup,
        ListGroup,
        SoundGroup,
        TextGroup,
        SamplingGroup,
        ArtefactGroup,
        WorkerGroup,
        OptionGroup,
        ConfigGroup,
        SpeechGroup,
    )
}
