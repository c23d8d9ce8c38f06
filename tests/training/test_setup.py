"""Which instances a run is given."""

from types import SimpleNamespace

import numpy as np
import pytest

from earsight import api
from earsight.config import ConfigError
from earsight.training.setup import open_data, statistics_rows


def test_a_fold_decides_what_is_held_out(media, small, tmp_path):
    names = sorted(path.relative_to(media).as_posix() for path in media.rglob("*.mp4"))
    lines = [f"{name},{number % 4 + 1}" for number, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,fold", *lines]))
    manifest = tmp_path / "corpus.parquet"
    api.scan([str(media)], manifest, labels=tmp_path / "labels.csv", workers=0)
    settings = [*small, f"data.corpus={manifest}"]
    data = open_data(api.configure("tiny", settings=[*settings, "data.fold=3"]))
    assert data.split == "fold 3 of 4"
    assert [path.removeprefix(f"{media}/") for path in data.held_out.path] == names[2::4]
    assert len(data.train) == len(names) - len(names[2::4])
    with pytest.raises(ValueError, match="no official split 5; it has 1, 2, 3, 4"):
        open_data(api.configure("tiny", settings=[*settings, "data.fold=5"]))
    with pytest.raises(ConfigError, match=r"data\.fold"):
        api.configure("tiny", settings=[*settings, "data.fold=-1"])


def test_what_is_on_neither_side_of_the_split_is_told(media, small, tmp_path):
    names = sorted(path.relative_to(media).as_posix() for path in media.rglob("*.mp4"))
    splits = ["valdation", "val", *["train"] * (len(names) - 2)]
    lines = [",".join(pair) for pair in zip(names, splits, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,split", *lines]))
    manifest = tmp_path / "corpus.parquet"
    api.scan([str(media)], manifest, labels=tmp_path / "labels.csv", workers=0)
    data = open_data(api.configure("tiny", settings=[*small, f"data.corpus={manifest}"]))
    assert data.left_out == {"on neither side of the split": 1}


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 1999, 2000, 2999])
def test_statistics_are_taken_over_the_whole_corpus(count):
    train = SimpleNamespace(has_audio=np.ones(count, dtype=bool))
    for seed in range(4):
        rows = statistics_rows(train, seed)
        assert min(count, 500) <= len(rows) <= 1000
        assert len(np.unique(rows)) == len(rows)
        assert rows[-1] >= count - 3
