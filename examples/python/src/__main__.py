import sys

from roman import roman

print(roman(int(sys.argv[1])))
