"""Fuzzing of sipwire: what has to hold for any input, and the program that looks for inputs where it does not."""
