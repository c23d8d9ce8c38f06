"""The demonstration, in folders with names that a setting could be misread by."""

import pytest

from earsight import demo


def test_a_folder_may_have_any_name(tmp_path, monkeypatch):
    found = []

    def pretrain(config, run, **_):
        found.append(config.data.corpus)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.api, "pretrain", pretrain)
    for name in ("render_demo", "api.scan"):
        monkeypatch.setattr(f"earsight.demo.{name}", lambda *_, **__: None)
    folder = tmp_path / "clips #1: 'mine'"
    with pytest.raises(KeyboardInterrupt):
        demo.demo(folder, short=True, quiet=True)
    assert found == [str(folder / "corpus.parquet")]
