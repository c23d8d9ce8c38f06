import pyarrow as pa
import pytest

from earsight.corpus import assemble as assembling
from earsight.corpus.assemble import assemble
from earsight.corpus.discover import Found
from earsight.corpus.facts import Unread, fact_table
from earsight.corpus.keys import key_of
from earsight.corpus.manifest import ScanSettings
from earsight.media.types import AudioInfo, MediaInfo


def sound(duration):
    audio = AudioInfo(stream=0, codec="opus", rate=48000, channels=1, start=0.0, duration=duration)
    return MediaInfo(duration=duration, video=None, audio=audio)


def facts_of(outcomes, contents):
    files = [Found(f"{n}.ogg", "#1", 1, 1) for n in range(len(outcomes))]
    facts = fact_table(files, outcomes)
    at = facts.schema.get_field_index("content")
    return facts.set_column(at, facts.schema.field("content"), pa.array(contents, pa.string()))


def test_copies_are_marked_instance_by_instance():
    facts = facts_of([sound(25.0)] * 3, ["x", "y", "x"])
    table = assemble(facts, ScanSettings(segment=10.0), None).table
    keys = table["key"].to_pylist()
    assert table["duplicate_of"].to_pylist() == [None] * 6 + keys[:3]
    assert table["group"].to_pylist() == ["0.ogg"] * 3 + ["1.ogg"] * 3 + ["0.ogg"] * 3


def test_unreadable_files_are_no_copies():
    broken = Unread(reason="is damaged", passing=False)
    table = assemble(facts_of([broken, broken], ["x", "x"]), ScanSettings(), None).table
    assert table["duplicate_of"].null_count == 2
    assert table["reason"].to_pylist() == ["is damaged"] * 2


def test_copies_that_are_cut_otherwise_stand_alone():
    """Two versions of FFmpeg may round a duration to either side of the rule."""
    facts = facts_of([sound(20.0), sound(25.0)], ["x", "x"])
    table = assemble(facts, ScanSettings(segment=10.0), None).table
    assert table["duplicate_of"].null_count == table.num_rows == 4


def test_equal_keys_name_both_files(monkeypatch):
    monkeypatch.setattr(assembling, "keys_of", lambda path, spans: [key_of("any") for _ in spans])
    with pytest.raises(ValueError, match=r"0\.ogg and 1\.ogg have the same key [0-9a-f]{16}"):
        assemble(facts_of([sound(3.0)] * 2, [None, None]), ScanSettings(), None)
