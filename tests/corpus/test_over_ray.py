"""How many parts a cluster does at once; what it does is tested where parts are made."""

import pytest

from earsight.corpus.over_ray import _free

NODES = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0}, {"CPU": 0.0}, {}]


@pytest.mark.parametrize(
    ("cores", "gpus", "room"), [(1, 0, 11), (2, 0, 5), (4, 0, 2), (2, 1, 2), (6, 1, 1)]
)
def test_parts_fit_nodes_by_their_cores_and_gpus(cores, gpus, room):
    assert _free(NODES, cores, gpus) == room


def test_a_cluster_without_room_is_refused():
    with pytest.raises(ValueError, match=r"has 9 cores \(they have 8, 3, 0, 0 cores\); give fewer"):
        _free(NODES, 9, 0)
    with pytest.raises(ValueError, match="3 cores and a GPU"):
        _free([{"CPU": 2.0, "GPU": 1.0}], 3, 1)
