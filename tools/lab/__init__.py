"""A lab on loopback: domains, neighbours and emulated terminals, for the demo, the tests and the benchmarks."""
