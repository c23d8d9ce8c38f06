"""Manifests of parts join to the bytes that one scan writes."""

import dataclasses
import json
import os
import random
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from earsight import api, cli
from earsight.corpus.manifest import MEMBER_FIELDS, read, write
from earsight.media.types import Coding

sys.path.insert(0, str(Path(__file__).parent))
from test_scan import Probe, fake

LABELS = "path,kind,split\n"
OPTIONS = {"workers": 0}


@pytest.fixture
def media(tmp_path):
    """Files of many kinds: long, short, silent, empty, broken, copied, with and without labels."""
    folder = tmp_path / "media"
    lines = [LABELS]
    for number in range(30):
        fake(folder / f"{number % 4}/{number:02d}.mp4", video=1.0 + number, audio=number % 3)
        if number % 5:
            lines.append(
                f"{number % 4}/{number:02d},k{number % 2},{'train' if number % 2 else ''}\n"
            )
    lines.append("nowhere.mp4,k1,train\n")
    for copy in ("a/copy.mp4", "z/copy.mp4"):
        (folder / copy).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "1/17.mp4", folder / copy)
    (folder / "broken.mp4").write_text("no media")
    (folder / "empty.mp4").write_text("")
    labels = tmp_path / "labels.csv"
    labels.write_text("".join(lines))
    return folder


def scan_parts(sources, folder, of, **options):
    """The manifests of all parts, in no order, and their reports."""
    folder.mkdir(exist_ok=True)
    places, reports = [], []
    for number in random.Random(of).sample(range(of), of):
        places.append(folder / f"part-{number}.parquet")
        reports.append(api.scan(sources, places[-1], shard=f"{number}/{of}", **options))
    return places, reports


@pytest.mark.parametrize("of", [1, 3, 40])
@pytest.mark.parametrize("kind", ["plain", "labelled", "segments"])
def test_the_merged_manifest_is_that_of_one_scan(media, tmp_path, of, kind):
    options = {**OPTIONS, "probe": Probe()}
    if kind != "plain":
        options["labels"] = tmp_path / "labels.csv"
    if kind == "segments":
        options |= {"segment": 2.0, "group_by": "kind"}
    whole = api.scan([str(media)], tmp_path / "whole.parquet", **options)
    places, reports = scan_parts([str(media)], tmp_path / "parts", of, **options)
    merged = api.merge(places, tmp_path / "merged.parquet")
    assert (tmp_path / "merged.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert sum(report.files for report in reports) == merged.files == whole.files == 34
    assert merged.statuses == whole.statuses
    assert merged.reasons == whole.reasons
    assert (merged.duplicates, merged.repeated, merged.hashed) == (whole.duplicates, 0, 0)
    assert merged.duplicates >= 2
    assert all(report.unmatched == whole.unmatched for report in reports)
    assert merged.unreadable.count == 2
    assert list(merged.unreadable.first) == ["broken.mp4", "empty.mp4"]
    assert "2 files could not be read:\n  broken.mp4\n  empty.mp4" in str(merged)


def test_a_file_stays_in_its_part_whatever_else_there_is(media, tmp_path):
    _, _ = scan_parts([str(media)], tmp_path / "parts", 3, probe=Probe(), **OPTIONS)
    before = {
        path: place.name
        for place in (tmp_path / "parts").iterdir()
        for path in read(place, parts=True).column("path")
    }
    fake(media / "0/new.mp4")
    (media / "0/00.mp4").unlink()
    probe = Probe()
    _, reports = scan_parts([str(media)], tmp_path / "parts", 3, probe=probe, **OPTIONS)
    after = {
        path: place.name
        for place in (tmp_path / "parts").iterdir()
        for path in read(place, parts=True).column("path")
    }
    assert {path: after[path] for path in after if path != "0/new.mp4"} == {
        path: before[path] for path in before if path != "0/00.mp4"
    }
    assert probe.asked == ["new.mp4"]  # the rest was read before
    assert (sum(r.new for r in reports), sum(r.gone for r in reports)) == (1, 1)


def test_missing_parts_are_named(media, tmp_path):
    places, _ = scan_parts([str(media)], tmp_path / "parts", 4, probe=Probe(), **OPTIONS)
    here = [place for place in places if place.name not in {"part-1.parquet", "part-2.parquet"}]
    with pytest.raises(ValueError, match=r"2 of 4 parts are missing: 1/4, 2/4; run `earsight scan"):
        api.merge(here, tmp_path / "merged.parquet")
    assert not (tmp_path / "merged.parquet").exists()


def test_what_is_given_twice_is_there_once(media, tmp_path):
    places, _ = scan_parts([str(media)], tmp_path / "parts", 3, probe=Probe(), **OPTIONS)
    api.scan([str(media)], tmp_path / "whole.parquet", probe=Probe(), **OPTIONS)
    merged = api.merge([*places, places[0], places[0]], tmp_path / "merged.parquet")
    assert merged.repeated == 2 * len(set(read(places[0], parts=True).column("path")))
    assert f"{merged.repeated} files were in several of them" in str(merged)
    assert (tmp_path / "merged.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_contradictions_are_named(media, tmp_path):
    places, _ = scan_parts([str(media)], tmp_path / "parts", 2, probe=Probe(), **OPTIONS)
    later = tmp_path / "later"
    fake(media / "0/08.mp4", video=2.0, audio=2.0, pad=3)
    again, _ = scan_parts([str(media)], later, 2, probe=Probe(), **OPTIONS)
    with pytest.raises(
        ValueError, match=r"contradict each other about 1 files: 0/08\.mp4 \(size, .*part-.*later/"
    ):
        api.merge([*places, *again], tmp_path / "merged.parquet")


def test_contradicting_labels_are_named(media, tmp_path):
    options = {**OPTIONS, "labels": tmp_path / "labels.csv", "probe": Probe()}
    places, _ = scan_parts([str(media)], tmp_path / "parts", 2, **options)
    text = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(text.replace("0/08,k0", "0/08,other"))
    again, _ = scan_parts([str(media)], tmp_path / "later", 2, **options)
    with pytest.raises(ValueError, match=r"about kind of 1 instances: 0/08\.mp4 .*'k0'.*'other'"):
        api.merge([*places, *again], tmp_path / "merged.parquet")


def test_parts_of_other_settings_are_refused(media, tmp_path):
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    api.scan([str(media)], one, shard="0/2", probe=Probe(), **OPTIONS)
    api.scan(
        [str(media)], two, shard="1/2", probe=Probe(), segment=2.0, min_duration=0.5, workers=0
    )
    with pytest.raises(ValueError, match=r"two\.parquet: differs .* in segment, min_duration"):
        api.merge([one, two], tmp_path / "merged.parquet")
    whole = tmp_path / "whole.parquet"
    api.scan([str(media)], whole, probe=Probe(), **OPTIONS)
    with pytest.raises(ValueError, match=r"whole\.parquet: is whole, and others are parts"):
        api.merge([one, whole], tmp_path / "merged.parquet")


def test_a_part_is_not_taken_for_a_corpus(media, tmp_path):
    place = tmp_path / "part.parquet"
    api.scan([str(media)], place, shard="0/2", probe=Probe(), **OPTIONS)
    with pytest.raises(ValueError, match=r"part\.parquet is part 0/2 of a corpus; join all"):
        read(place)
    with pytest.raises(ValueError, match=r"manifest of part 0/2, and this scan .* whole corpus"):
        api.scan([str(media)], place, probe=Probe(), **OPTIONS)
    with pytest.raises(ValueError, match="of part 0/2, and this scan would make one of part 1/2"):
        api.scan([str(media)], place, shard="1/2", probe=Probe(), **OPTIONS)


def test_labels_by_key_wait_for_all_parts(media, tmp_path):
    whole, probe = tmp_path / "whole.parquet", Probe()
    api.scan([str(media)], whole, probe=Probe(), **OPTIONS)
    keys = tmp_path / "keys.csv"
    corpus = read(whole)
    keys.write_text("key,kind\n" + "".join(f"{k:016x},x\n" for k in corpus.column("key")[:5]))
    with pytest.raises(ValueError, match=r"names keys.*no file is read again"):
        api.scan([str(media)], tmp_path / "p.parquet", shard="0/2", labels=keys, **OPTIONS)
    places, _ = scan_parts([str(media)], tmp_path / "parts", 2, probe=Probe(), **OPTIONS)
    api.merge(places, tmp_path / "merged.parquet")
    api.scan([str(media)], tmp_path / "merged.parquet", labels=keys, probe=probe, **OPTIONS)
    assert probe.asked == []
    api.scan([str(media)], whole, labels=keys, probe=probe, **OPTIONS)
    assert (tmp_path / "merged.parquet").read_bytes() == whole.read_bytes()


def test_scans_of_different_folders_join_to_one_scan_of_both(media, tmp_path):
    """Files of equal size in different manifests are compared now, and copies found."""
    other = tmp_path / "other"
    fake(other / "own.mp4", pad=200)
    fake(media / "z/long.mp4", pad=100)
    shutil.copy(media / "z/long.mp4", other / "one-more.mp4")
    for name, sources in {"a": [media], "b": [other], "both": [media, other]}.items():
        place = tmp_path / f"{name}.parquet"
        api.scan([str(source) for source in sources], place, probe=Probe(), **OPTIONS)
    merged = api.merge([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "m.parquet")
    assert (tmp_path / "m.parquet").read_bytes() == (tmp_path / "both.parquet").read_bytes()
    assert merged.hashed == 2  # those of equal size, one from each
    assert merged.duplicates == 3
    (other / "one-more.mp4").unlink()
    with pytest.raises(ValueError, match=r"one-more\.mp4: cannot be opened.*merge where"):
        api.merge([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "m.parquet")


def test_only_a_whole_manifest_is_replaced(media, tmp_path):
    places, _ = scan_parts([str(media)], tmp_path / "parts", 2, probe=Probe(), **OPTIONS)
    notes = tmp_path / "notes.txt"
    notes.write_text("to be kept")
    with pytest.raises(ValueError, match=r"notes\.txt is no corpus, or is damaged"):
        api.merge(places, notes)
    assert notes.read_text() == "to be kept"
    part = places[0].read_bytes()
    with pytest.raises(ValueError, match=r"manifest of part \d/2; give another output"):
        api.merge(places, places[0])
    assert places[0].read_bytes() == part
    with pytest.raises(ValueError, match="a folder that exists"):
        api.merge(places, tmp_path / "nowhere/m.parquet")
    for _ in range(2):  # what a merge made may be made anew
        assert api.merge(places, tmp_path / "m.parquet").files == 34
    whole = read(tmp_path / "m.parquet")
    table = whole.table
    for field in MEMBER_FIELDS:
        table = table.append_column(field, pa.nulls(len(whole), field.type))
    write(dataclasses.replace(whole, table=table, prepared=Coding()), tmp_path / "s.parquet")
    with pytest.raises(ValueError, match="manifest of prepared shards; give another output"):
        api.merge(places, tmp_path / "s.parquet")


def test_named_sources_must_lie_at_one_place(media, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(media, moved)
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    api.scan([f"v={media}"], one, shard="0/2", probe=Probe(), **OPTIONS)
    api.scan([f"v={moved}"], two, shard="1/2", probe=Probe(), **OPTIONS)
    with pytest.raises(ValueError, match=r"source 'v' lies in .*moved.*same path"):
        api.merge([one, two], tmp_path / "merged.parquet")


def test_a_damaged_part_is_named_and_nothing_written(media, tmp_path):
    places, _ = scan_parts([str(media)], tmp_path / "parts", 2, probe=Probe(), **OPTIONS)
    size = places[0].stat().st_size
    os.truncate(places[0], size // 2)
    with pytest.raises(ValueError, match=r"part-\d\.parquet is no corpus, or is damaged"):
        api.merge(places, tmp_path / "merged.parquet")
    assert not (tmp_path / "merged.parquet").exists()


def test_prepared_manifests_and_nothing_are_refused(media, tmp_path):
    with pytest.raises(ValueError, match="nothing to merge"):
        api.merge([], tmp_path / "m.parquet")
    with pytest.raises(ValueError, match="is not there"):
        api.merge([tmp_path / "no.parquet"], tmp_path / "m.parquet")
    place = tmp_path / "whole.parquet"
    api.scan([str(media)], place, probe=Probe(), **OPTIONS)
    with pytest.raises(ValueError, match="corpus: has no effect on manifests"):
        api.merge([place], tmp_path / "m.parquet", corpus=place)
    with pytest.raises(ValueError, match=r"holds neither shards nor an index"):
        api.merge([media], tmp_path / "m")


def test_the_commands(media, tmp_path, capsys):
    shutil.copytree(media, tmp_path / "v")
    for number in range(2):
        command = ["scan", str(tmp_path / "v"), "-o", str(tmp_path / f"{number}.parquet")]
        assert cli.guarded(cli.parse([*command, "--shard", f"{number}/2", "--workers", "0"])) == 0
        assert f"it is part {number}/2 of the corpus" in capsys.readouterr().out
    parts = [str(tmp_path / f"{number}.parquet") for number in range(2)]
    merge = ["merge", *parts, "-o", str(tmp_path / "m.parquet")]
    assert cli.guarded(cli.parse(merge)) == 0
    assert "2 manifests joined: 34 files" in capsys.readouterr().out
    assert cli.guarded(cli.parse([*merge, "--json"])) == 0
    assert json.loads(capsys.readouterr().out)["parts"] == 2
    assert cli.guarded(cli.parse([*command, "--shard", "2/2"])) == 2
    assert "shard: 2/2 is no part of 2" in capsys.readouterr().err
