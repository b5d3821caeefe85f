"""What is compared of each method with the numbers in `tests/golden/<method>.json`: `RUNS`, and the weights in the
layout of the authors' files, `RELEASED`. A module is called as its method."""
