import pytest

from pst_rl import AGGREGATORS, REWARDS, PSTConfig
from pst_rl.methods import METHODS
from pst_rl.scheme import make_aggregator, make_providers, make_weighting


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_options_that_make_a_scheme(name, tmp_path):
    args = PSTConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False, **METHODS[name])
    assert type(make_aggregator(args)) is AGGREGATORS[METHODS[name].get("aggregator", "majority")]
    made = make_providers(args.rewards, args).values()
    assert [type(p) for p in made] == [REWARDS[r] for r in METHODS[name].get("rewards", ["matches_aggregate"])]
    make_weighting(args)
