"""The sample stream: whole epochs, exact shares, one function of (seed, number)."""

from __future__ import annotations

import pickle
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openvla_toolkit.core.data_sections import Shuffle
from openvla_toolkit.pipeline.sampler import MixtureSampler, Source, micro_batches

SOURCES = st.lists(
    st.builds(Source, size=st.integers(1, 400), weight=st.floats(0.05, 20.0)), min_size=1, max_size=4
)
SHUFFLES = st.just(Shuffle()) | st.builds(
    Shuffle, name=st.just("blocks"), block=st.integers(1, 60), window=st.integers(1, 5)
)


@given(sources=SOURCES, seed=st.integers(0, 2**32), shuffle=SHUFFLES)
@settings(max_examples=40, deadline=None)
def test_a_frame_never_comes_twice_before_all_have_come_once(
    sources: list[Source], seed: int, shuffle: Shuffle
) -> None:
    sampler = MixtureSampler(sources, seed=seed, shuffle=shuffle)
    seen: dict[int, list[int]] = {source: [] for source in range(len(sources))}
    for number in range(1200):
        source, position = sampler.pick(number)
        seen[source].append(position)
    for source, positions in seen.items():
        size = sources[source].size
        for start in range(0, len(positions) - size + 1, size):
            assert sorted(positions[start : start + size]) == list(range(size))


def test_every_frame_comes_once_per_epoch_and_epochs_differ() -> None:
    sampler = MixtureSampler([Source(97, 1.0)], seed=3)
    epochs = [[sampler.pick(epoch * 97 + turn).position for turn in range(97)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(97)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@given(sources=SOURCES, seed=st.integers(0, 2**32), block=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_every_block_holds_the_shares(sources: list[Source], seed: int, block: int) -> None:
    sampler = MixtureSampler(sources, seed=seed)
    size = sampler.block
    counts = Counter(sampler.pick(block * size + slot).source for slot in range(size))
    whole = sum(source.weight for source in sources)
    for position, source in enumerate(sources):
        assert counts[position] >= 1
        assert abs(counts[position] - size * source.weight / whole) < 2


@given(sources=SOURCES, blocks=st.integers(1, 10**9))
@settings(max_examples=40, deadline=None)
def test_after_any_number_of_blocks_no_source_is_a_sample_off(sources: list[Source], blocks: int) -> None:
    sampler = MixtureSampler(sources, seed=0)
    number = blocks * sampler.block
    slots = range(number, number + sampler.block)
    drawn = {sampler.pick(slot).source: sampler.visit(slot) for slot in reversed(slots)}
    whole = sum(Fraction(source.weight) for source in sources)
    assert sum(drawn.values()) == number
    for position, source in enumerate(sources):
        assert abs(drawn[position] - number * Fraction(source.weight) / whole) < 1


def test_what_a_share_leaves_over_is_carried_to_the_next_block() -> None:
    """A share of 2.24 samples per block, as dlr_edan has of oxe_magic_soup_plus."""
    sampler = MixtureSampler([Source(1000, 1021.76), Source(1000, 2.24)], seed=0)
    counts = [
        sum(sampler.pick(block * sampler.block + slot).source for slot in range(sampler.block))
        for block in range(100)
    ]
    assert set(counts) == {2, 3}
    assert sum(counts) == 224


def test_simple_shares_are_exact() -> None:
    sampler = MixtureSampler([Source(50, 1.0), Source(70, 3.0)], seed=0)
    counts = Counter(sampler.pick(number).source for number in range(3 * sampler.block))
    assert counts[1] == 3 * counts[0]


def test_a_tiny_share_is_not_lost() -> None:
    sampler = MixtureSampler([Source(10, 1.0), Source(10, 1e-5)], seed=0)
    counts = Counter(sampler.pick(number).source for number in range(sampler.block))
    assert 1 <= counts[1] <= 3


@given(
    seed=st.integers(0, 2**32),
    numbers=st.lists(st.integers(0, 10**9), min_size=1, max_size=20),
    shuffle=SHUFFLES,
)
@settings(max_examples=40, deadline=None)
def test_a_sample_depends_on_seed_and_number_alone(seed: int, numbers: list[int], shuffle: Shuffle) -> None:
    sources = [Source(1000, 1.0), Source(7, 2.0)]
    forwards, backwards = (MixtureSampler(sources, seed=seed, shuffle=shuffle) for _ in range(2))
    copy = pickle.loads(pickle.dumps(backwards))
    there = [forwards.pick(number) for number in numbers]
    assert [backwards.pick(number) for number in reversed(numbers)][::-1] == there
    assert [copy.pick(number) for number in numbers] == there


def test_another_seed_is_another_stream() -> None:
    sources = [Source(1000, 1.0)]
    streams = {tuple(MixtureSampler(sources, seed=seed).pick(n) for n in range(20)) for seed in range(20)}
    assert len(streams) == 20


def test_a_visit_is_the_number_of_draws_from_its_source_before() -> None:
    sampler = MixtureSampler([Source(50, 1.0), Source(70, 3.0)], seed=0)
    seen: Counter[int] = Counter()
    for number in range(2 * sampler.block):
        source, position = sampler.pick(number)
        visit = sampler.visit(number)
        assert visit == seen[source]
        assert sampler.orders[source].positions(visit, visit + 1).tolist() == [position]
        seen[source] += 1


@given(sources=SOURCES, seed=st.integers(0, 99), shuffle=SHUFFLES, start=st.integers(0, 40))
@settings(max_examples=30, deadline=None)
def test_the_samples_of_a_step_are_the_same_for_any_ranks(
    sources: list[Source], seed: int, shuffle: Shuffle, start: int
) -> None:
    """A run of one process goes on with two or four, from one integer."""

    def union(world_size: int, per_device: int) -> list[list[tuple[int, int]]]:
        sampler = MixtureSampler(sources, seed=seed, shuffle=shuffle)
        ranks = [
            list(micro_batches(start=start, stop=start + 3, total=24, per_device=per_device, rank=rank,
                               world_size=world_size))
            for rank in range(world_size)
        ]  # fmt: skip
        parts = len(ranks[0]) // 3
        return [
            sorted(
                tuple(sampler.pick(number))
                for rank in ranks
                for numbers in rank[step * parts : (step + 1) * parts]
                for number in numbers
            )
            for step in range(3)
        ]

    alone = union(1, 24)
    assert union(1, 6) == union(2, 12) == union(2, 3) == union(4, 6) == alone
    straight = MixtureSampler(sources, seed=seed, shuffle=shuffle)
    assert alone[0] == sorted(tuple(straight.pick(number)) for number in range(start * 24, start * 24 + 24))


def test_the_stream_is_frozen() -> None:
    """Runs resume across versions: these numbers may never change."""
    sampler = MixtureSampler([Source(100, 1.0), Source(10, 0.5)], seed=7)
    assert [tuple(sampler.pick(number)) for number in (0, 1, 2, 5000)] == [(0, 2), (0, 19), (0, 17), (1, 5)]


@pytest.mark.parametrize(
    "sources", [[], [Source(0, 1.0)], [Source(3, 0.0)], [Source(3, 1.0), Source(3, -1.0)]]
)
def test_a_mixture_of_nothing_is_refused(sources: list[Source]) -> None:
    with pytest.raises(ValueError, match="a mixture needs sources"):
        MixtureSampler(sources, seed=0)


@given(
    start=st.integers(0, 50), steps=st.integers(0, 5), per_device=st.integers(1, 5), parts=st.integers(1, 4),
    world_size=st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_ranks_share_every_step_and_nothing_comes_twice(
    start: int, steps: int, per_device: int, parts: int, world_size: int
) -> None:
    total = per_device * parts * world_size
    batches = [
        list(
            micro_batches(
                start=start,
                stop=start + steps,
                total=total,
                per_device=per_device,
                rank=rank,
                world_size=world_size,
            )
        )
        for rank in range(world_size)
    ]
    assert all(len(one) == steps * parts for one in batches)
    assert all(len(batch) == per_device for one in batches for batch in one)
    for step in range(steps):
        numbers = [n for one in batches for batch in one[step * parts : (step + 1) * parts] for n in batch]
        first = (start + step) * total
        assert sorted(numbers) == list(range(first, first + total))


def test_going_on_is_going_on_from_one_integer() -> None:
    def numbers(start: int) -> list[list[int]]:
        return list(micro_batches(start=start, stop=9, total=6, per_device=3))

    assert numbers(0)[2 * 4 :] == numbers(4)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="batch 10 does not divide into 2 x 4"):
        list(micro_batches(start=0, stop=1, total=10, per_device=4, world_size=2))
