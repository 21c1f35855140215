import unittest

from roman import roman


class RomanTest(unittest.TestCase):
    def test_numerals(self):
        for n, want in {1: "I", 4: "IV", 1994: "MCMXCIV", 3999: "MMMCMXCIX"}.items():
            self.assertEqual(roman(n), want)

    def test_bounds(self):
        for n in (0, 4000):
            with self.assertRaises(ValueError):
                roman(n)


if __name__ == "__main__":
    unittest.main()
