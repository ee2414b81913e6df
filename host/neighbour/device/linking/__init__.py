"""Makes few small modules of many, for a heap of a hundred kilobytes."""
