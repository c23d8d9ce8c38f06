"""What the command refuses before it listens."""

import socket
import sys

import pytest

from earsight import api, cli


def refuse(index, **options):
    with pytest.raises(ValueError) as caught:
        api.serve(index, ready=lambda _: None, device="cpu", **options)
    return str(caught.value)


def test_addresses_that_cannot_be_used(served):
    index = served / "index"
    assert "stands for all addresses" in refuse(index, host="0.0.0.0")
    assert "stands for all addresses" in refuse(index, host="::")
    assert "'example.org' is no address" in refuse(index, host="example.org")
    assert "from 0 to 65535" in refuse(index, port=70000)
    assert "at least 1 MB" in refuse(index, upload_mb=0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "give another by --port" in refuse(index, port=taken.getsockname()[1])


def test_an_index_of_other_weights(served, corpus, small, tmp_path):
    settings = [*small, f"data.corpus={corpus}", "seed=7", "train.epochs=1"]
    api.pretrain(api.configure("tiny", settings=settings), tmp_path / "other", quiet=True)
    assert "other weights" in refuse(served / "index", run=tmp_path / "other")
    assert "is no index" in refuse(tmp_path)


def test_the_missing_extra_is_named(served, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("earsight.serve.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.guarded(cli.parse(["serve", str(served / "index")])) == 2
    assert capsys.readouterr().err == (
        "earsight: the page needs the extra: pip install 'earsight[serve]'\n"
    )
