"""Tests of the verdict."""

import unittest

from growth import Sample, grown, slope


def samples(memory=lambda index: 100.0, threads=lambda index: 20, count=30):
    return [
        Sample(10.0 * index, 100 * index, memory(index), threads(index), 50, 10, 1.0, 1.0) for index in range(count)
    ]


class Growth(unittest.TestCase):
    def test_constant_values_have_not_grown(self):
        self.assertEqual(grown(samples()), [])

    def test_growth_during_the_warm_up_is_expected(self):
        warm = samples(memory=lambda index: min(100.0 + 50 * index, 400.0), threads=lambda index: min(20 + index, 30))
        self.assertEqual(grown(warm), [])

    def test_a_thread_more_with_each_sample_is_growth(self):
        (found,) = grown(samples(threads=lambda index: 20 + index))
        self.assertIn("threads: at most 39 in the middle third, 49 in the last one", found)

    def test_memory_that_grows_throughout_the_run_is_growth(self):
        (found,) = grown(samples(memory=lambda index: 100.0 + 5 * index))
        self.assertIn("memory", found)

    def test_too_few_samples_are_reported(self):
        (found,) = grown(samples(count=5))
        self.assertIn("too few", found)

    def test_the_slope_of_a_line_is_exact(self):
        self.assertAlmostEqual(slope([0, 1, 2, 3], [5, 7, 9, 11]), 2.0)
        self.assertEqual(slope([1, 1], [5, 7]), 0.0)


if __name__ == "__main__":
    unittest.main()
