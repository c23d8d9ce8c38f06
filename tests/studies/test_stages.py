"""What names a stage: settings and clips that decide what comes of it."""

from dataclasses import replace

import pyarrow as pa
import pytest

from earsight import api
from earsight.corpus.manifest import SPLIT, read
from earsight.studies.stages import corpus_digest, decisive


def with_column(corpus, name, values):
    table = corpus.table
    at = table.column_names.index(name)
    return replace(
        corpus, table=table.set_column(at, name, pa.array(values, table.schema.field(at).type))
    )


@pytest.fixture(scope="module")
def found(corpus):
    return read(corpus)


def test_groups_name_a_corpus_where_they_make_its_split(found):
    grouped = replace(found, settings=replace(found.settings, group_by="shape"))
    assert corpus_digest(grouped) == corpus_digest(found)
    loose = replace(found, table=found.table.drop_columns([SPLIT]))
    by_shape = replace(grouped, table=loose.table)
    by_shape = with_column(by_shape, "group", list(found.labels("shape")))
    assert corpus_digest(by_shape) != corpus_digest(loose)


def test_what_is_left_out_names_a_corpus(found):
    status = list(found.column("status"))
    shorter = with_column(found, "status", ["too-short", *status[1:]])
    first, nobody = int(found.column("key")[0]), [None] * (len(found) - 1)
    copied = with_column(found, "duplicate_of", [*nobody, first])
    assert len({corpus_digest(one) for one in (found, shorter, copied)}) == 3


def test_a_cache_on_the_device_decides_and_others_do_not():
    by_cache = {
        cache: decisive(api.configure("tiny", settings=["data.corpus=c", f"data.cache={cache}"]))
        for cache in ("none", "memory", "disk", "device")
    }
    assert by_cache["none"] == by_cache["memory"] == by_cache["disk"]
    assert by_cache["device"] == by_cache["none"] | {"data.cache": "device"}
