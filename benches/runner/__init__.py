"""The side-by-side runs behind `make bench`: build, load, run interleaved, compare."""
