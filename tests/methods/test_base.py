import os
import subprocess
import sys

import pytest
import torch

from earsight.methods.base import Method, Needs, mean_over_ranks, unit

RANK = """
import sys
import torch
from torch import distributed
from earsight.corpus.batch import Batch
from earsight.methods import Avid, AvidConfig
from earsight.methods.base import mean_over_ranks

rank, path = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
x = torch.tensor([1.0, 10.0]) * (rank + 1)
assert mean_over_ranks(x).tolist() == [1.5, 15.0]
assert x.tolist() == [rank + 1.0, 10.0 * (rank + 1)]


class Given(torch.nn.Module):
    def forward(self, video, audio):
        return video, audio


torch.manual_seed(rank)
view = {"video": torch.randn(4, 8), "audio": torch.randn(4, 8)}
row = torch.arange(4) + 4 * rank
batch = Batch(
    views=(view,), row=row, index=row, start=torch.zeros(4), has_audio=torch.ones(4) > 0
)
method = Avid(AvidConfig(negatives=16), size=8, dim=8, seed=0)
metrics = method.loss(Given(), batch).metrics
observed = metrics["partition_of_batch"]
print(float(method.partition), float(mean_over_ranks(observed)))
method.loss(Given(), batch)
assert float(mean_over_ranks(method.partition)) == float(method.partition)
distributed.destroy_process_group()
"""


def test_mean_over_ranks_is_the_identity_in_one_process():
    x = torch.randn(3)
    assert mean_over_ranks(x) is x


def test_ranks_agree_on_means_and_on_the_partition(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    answers = [rank.communicate(timeout=120)[0].split() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert answers[0] == answers[1]
    assert answers[0][0] == answers[0][1]


def test_unit():
    x = torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(unit(x), x / x.square().sum(1, keepdim=True).sqrt())
    assert unit(x.bfloat16()).dtype == torch.float32


def test_the_contract_must_be_filled():
    with pytest.raises(TypeError, match="abstract"):
        Method()
    assert Needs() == Needs(views=1, labels=False, clips=0)


def test_embed_names_unit_embeddings_of_what_is_there():
    class Given(torch.nn.Module):
        def forward(self, video, audio):
            return video, audio

    class Nothing(Method):
        needs = Needs()
        spaces = frozenset()

        def loss(self, model, batch):
            raise NotImplementedError

        def commit(self, updates):
            raise NotImplementedError

    video = torch.randn(3, 5)
    both = Nothing().embed(Given(), {"video": video, "audio": 2 * video})
    torch.testing.assert_close(both["video"], both["audio"])
    torch.testing.assert_close(both["video"].norm(dim=1), torch.ones(3))
    assert set(Nothing().embed(Given(), {"video": video})) == {"video"}
