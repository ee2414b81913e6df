"""What the hybrid model saves, measured, and what its keys between terminals risk, simulated: ``tools/evaluate``."""
