"""Tests of the verdict."""

import random
import unittest

import growth
from growth import Sample, describe_fits, grown, theil_sen

COMMITS_PER_SAMPLE = 330


def samples(memory=lambda index: 100.0, threads=lambda index: 20, state=lambda index: 1.0, count=360):
    """Samples of an hour, ten seconds apart; fewer samples are of a shorter run."""
    return [
        Sample(
            seconds=10.0 * index,
            commits=COMMITS_PER_SAMPLE * index,
            memory_mb=memory(index),
            threads=threads(index),
            descriptors=50,
            connections=10,
            state_mb=state(index),
            log_mb=5.0 * index,
        )
        for index in range(count)
    ]


def noisy(per_hour, noise_mb=5.0, seed=1):
    """Memory that grows by some MiB per hour, with noise."""
    draw = random.Random(seed)
    return lambda index: 300.0 + per_hour * index / 360 + draw.uniform(-noise_mb, noise_mb)


class Growth(unittest.TestCase):
    def test_constant_values_have_not_grown(self):
        self.assertEqual(grown(samples()), [])

    def test_growth_during_the_warm_up_is_expected(self):
        warm = samples(memory=lambda index: min(100.0 + 5 * index, 400.0), threads=lambda index: min(20 + index, 30))
        self.assertEqual(grown(warm), [])

    def test_a_thread_more_with_each_sample_is_growth(self):
        (found,) = grown(samples(threads=lambda index: 20 + index, count=30))
        self.assertIn("threads: a median of 34.5 in the middle third, 44.5 in the last one", found)

    def test_threads_of_a_moment_are_not_growth(self):
        self.assertEqual(grown(samples(threads=lambda index: 70 if 300 < index < 310 else 20)), [])

    def test_too_few_samples_are_reported(self):
        (found,) = grown(samples(count=5))
        self.assertIn("too few", found)


class Memory(unittest.TestCase):
    def test_constant_memory_with_noise_has_not_grown(self):
        for seed in range(20):
            self.assertEqual(grown(samples(memory=noisy(0.0, 20.0, seed))), [], seed)

    def test_growth_above_the_bound_is_found_in_noise(self):
        for seed in range(20):
            (found,) = grown(samples(memory=noisy(growth.MEMORY_MB_PER_HOUR_MAX + 20, 20.0, seed)))
            self.assertIn("memory", found)

    def test_growth_below_the_bound_is_accepted(self):
        self.assertEqual(grown(samples(memory=noisy(growth.MEMORY_MB_PER_HOUR_MAX - 10))), [])

    def test_outliers_are_not_growth(self):
        # A fifth of the samples, most of them near the end.
        spikes = samples(memory=lambda index: 300.0 + (200.0 if index % 10 > 7 or index > 350 else 0.0))
        self.assertEqual(grown(spikes), [])

    def test_growth_is_found_among_outliers(self):
        steep = 2 * growth.MEMORY_MB_PER_HOUR_MAX / 360
        (found,) = grown(samples(memory=lambda index: 300.0 + steep * index - (150.0 if index > 320 else 0.0)))
        self.assertIn("memory", found)

    def test_noise_of_a_run_of_two_minutes_is_not_growth(self):
        for seed in range(20):
            self.assertEqual(grown(samples(memory=noisy(0.0, 3.0, seed), count=12)), [], seed)

    def test_a_leak_in_a_run_of_two_minutes_is_growth(self):
        (found,) = grown(samples(memory=lambda index: 300.0 + 4 * index, count=12))
        self.assertIn("memory", found)


class Disk(unittest.TestCase):
    def state(self, bytes_per_commit, saw_mb=0.0):
        """Disk space of the state, with a saw-tooth of some MiB, as merges leave it."""
        return lambda index: bytes_per_commit * COMMITS_PER_SAMPLE * index / 2**20 + saw_mb * (index % 40) / 40

    def test_growth_per_commit_above_the_bound_is_found(self):
        (found,) = grown(samples(state=self.state(2 * growth.STATE_BYTES_PER_COMMIT_MAX, 60.0)))
        self.assertIn("state: 4", found)

    def test_growth_per_commit_below_the_bound_is_accepted(self):
        self.assertEqual(grown(samples(state=self.state(0.5 * growth.STATE_BYTES_PER_COMMIT_MAX, 60.0))), [])

    def test_merges_of_a_short_run_are_not_growth(self):
        self.assertEqual(grown(samples(state=self.state(400.0, 60.0), count=12)), [])


class TheilSen(unittest.TestCase):
    def test_the_line_through_points_of_a_line_is_exact(self):
        fit = theil_sen([10, 11, 12, 13], [5, 7, 9, 11])
        self.assertEqual((fit.start, fit.slope, fit.rise, fit.count), (5.0, 2.0, 6.0, 4))

    def test_values_at_one_point_have_no_slope(self):
        self.assertEqual(theil_sen([1, 1], [5, 7]).slope, 0.0)

    def test_many_samples_are_thinned(self):
        count = 10 * growth.FITTED_MAX
        fit = theil_sen(list(range(count)), [3.0 * x for x in range(count)])
        self.assertEqual((fit.slope, fit.count), (3.0, growth.FITTED_MAX))


class Texts(unittest.TestCase):
    def test_the_fits_are_shown_with_their_bounds(self):
        memory, state = describe_fits(samples(memory=noisy(30.0), state=lambda index: 2.0))
        self.assertIn(f"at most {growth.MEMORY_MB_PER_HOUR_MAX:.0f} MiB per hour", memory)
        self.assertIn("2.0 MiB + 0 bytes per commit", state)


if __name__ == "__main__":
    unittest.main()
