"""The paper's generator gives the paper's own table; quantile marginals keep their quantiles and mean."""

import numpy as np
import pytest

from controlplane.simulator import lengths
from controlplane.simulator.lengths import MIXES, PAPER_SEED, draw_mix


@pytest.mark.parametrize(
    ("source", "percentiles"),
    [
        (lengths.SHORT, (38, 113, 413, 1464)),
        (lengths.MEDIUM, (32, 173, 1288, 4208)),
        (lengths.LONG, (55, 582, 3113, 5166)),
    ],
)
def test_first_draw_reproduces_table_1_of_the_paper(source, percentiles):
    drawn = source.draw(np.random.RandomState(PAPER_SEED), 10_000)
    assert tuple(int(p) for p in np.percentile(drawn, [50, 80, 95, 99])) == percentiles
    assert abs(drawn.mean() - source.mean_tokens) < 0.011 * source.mean_tokens
    assert drawn.min() >= 1
    assert drawn.max() <= lengths.MAX_SIDE_TOKENS


@pytest.mark.parametrize(
    "source",
    [lengths.SHAREGPT_PROMPT, lengths.SHAREGPT_OUTPUT, lengths.BURSTGPT_PROMPT, lengths.BURSTGPT_OUTPUT],
)
def test_marginals_keep_their_published_quantiles_and_mean(source):
    share = (np.arange(100_000) + 0.5) / 100_000
    value = source.at(share)
    assert (np.diff(value) >= 0).all()
    for at, quantile in source.quantiles:
        assert np.percentile(value, 100 * at) == pytest.approx(quantile, rel=0.01, abs=0.2)
    assert value.mean() == pytest.approx(source.mean_tokens, rel=0.01)


@pytest.mark.parametrize("mix", list(MIXES))
def test_a_mix_fits_the_engine_and_repeats_by_seed(mix):
    prompts, outputs = draw_mix(mix, 2_000, seed=3)
    again = draw_mix(mix, 2_000, seed=3)
    assert (prompts == again[0]).all()
    assert (outputs == again[1]).all()
    assert (prompts != draw_mix(mix, 2_000, seed=4)[0]).any()
    assert (prompts + outputs).max() <= 12_800
    assert abs(np.corrcoef(prompts, outputs)[0, 1]) < 0.1


def test_an_unknown_mix_is_refused_with_the_known_ones():
    with pytest.raises(KeyError, match="S-S"):
        draw_mix("X-X", 10, 0)
