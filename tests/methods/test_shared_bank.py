"""A bank whose rows ranks share: four processes, then two, then one, equal to one that is not."""

import itertools
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import shared_bank
from shared_bank import CASES, PHASES, SIZE, STEPS

SCRIPT = Path(__file__).with_name("shared_bank.py")
SEVERAL = [ranks for ranks in PHASES if ranks > 1]


@pytest.fixture(scope="module")
def everyone(ran_by_ranks):
    """What each process found, by number of ranks and case."""
    return ran_by_ranks(SCRIPT, max(PHASES))


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, list):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize("ranks", SEVERAL)
@pytest.mark.parametrize("case", CASES)
def test_ranks_that_share_a_bank_learn_what_those_learn_that_do_not(everyone, case, ranks):
    for number in range(ranks):
        replicated, sharded = (
            everyone[number][ranks][case, bank]["steps"] for bank in ("replicated", "sharded")
        )
        for expected, found in zip(replicated, sharded, strict=True):
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                assert same(value, found[name]), name
    whole, shared = (everyone[0][ranks][case, b]["after"] for b in ("replicated", "sharded"))
    assert shared.keys() == whole.keys()
    assert all(torch.equal(shared[name], value) for name, value in whole.items())


@pytest.mark.parametrize("ranks", SEVERAL)
def test_a_rank_keeps_its_part_and_saves_nothing_of_the_others(everyone, ranks):
    parts = [done[ranks]["fetched", "sharded"] for done in everyone[:ranks]]
    assert sum(part["kept"] for part in parts) == SIZE
    assert max(part["kept"] for part in parts) == -(-SIZE // ranks)
    assert {len(part["after"].get("bank.video", ())) for part in parts[1:]} == {0}
    assert all(
        torch.equal(x["after"]["bank.visited"], parts[0]["after"]["bank.visited"]) for x in parts
    )


@pytest.mark.parametrize("ranks", SEVERAL)
def test_any_rows_are_fetched_from_tables_of_any_kind(everyone, ranks):
    tables = shared_bank.TABLES
    for number, done in enumerate(everyone[:ranks]):
        rows, fetched, whole, main = done[ranks]["tables"]
        assert all(torch.equal(x, table[rows]) for x, table in zip(fetched, tables, strict=True))
        assert all(torch.equal(x, table) for x, table in zip(whole, tables, strict=True))
        if number:
            assert main == [None] * len(tables)
        else:
            assert all(torch.equal(x, table) for x, table in zip(main, tables, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_fewer_ranks_go_on_with_every_bit_of_the_bank(everyone, case):
    for before, after in itertools.pairwise(PHASES):
        left = everyone[0][before][case, "sharded"]["after"]
        for bank in ("replicated", "sharded"):
            taken = everyone[0][after][case, bank]["before"]
            assert taken.keys() == left.keys()
            assert all(torch.equal(taken[name], value) for name, value in left.items())


@pytest.mark.parametrize("case", CASES)
def test_losses_go_on_as_in_one_process(everyone, case):
    model, method = shared_bank.build(case, "replicated")
    wanted = []
    for at in range(len(PHASES)):
        wanted += shared_bank.train(model, method, range(at * STEPS, (at + 1) * STEPS))
    found = [step for ranks in PHASES for step in everyone[0][ranks][case, "sharded"]["steps"]]
    # Half precision may round what differs in its last bit to neighbours.
    close = 1e-5 if case in ("fetched", "whole", "cma") else 3e-3
    for expected, step in zip(wanted, found, strict=True):
        assert step["loss"] == pytest.approx(expected["loss"], rel=close)
