"""Which held-out samples are measured: each once, the same ones however many ranks share them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.pipeline.sampler import MixtureSampler, Source
from openvla_toolkit.stages.training.validation import dealt, distinct


@given(
    sources=st.lists(
        st.builds(Source, size=st.integers(1, 30), weight=st.floats(0.1, 1)), min_size=1, max_size=3
    ),
    samples=st.integers(1, 60),
)
def test_as_many_as_there_are_and_none_twice(sources: list[Source], samples: int) -> None:
    sampler = MixtureSampler(sources, seed=3)
    numbers = distinct(sampler, sources, samples)
    picks = {sampler.pick(number) for number in numbers}
    assert len(picks) == len(numbers) == min(samples, sum(source.size for source in sources))


@given(count=st.integers(1, 40), at_a_time=st.integers(1, 5), world_size=st.integers(1, 4))
def test_ranks_share_them_and_pass_equally_often(count: int, at_a_time: int, world_size: int) -> None:
    ranks = [dealt(range(count), at_a_time, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert len({len(parts) for parts in ranks}) == 1
    assert all(len(part) <= at_a_time for parts in ranks for part in parts)
    assert sorted(number for parts in ranks for part in parts for number in part) == list(range(count))
