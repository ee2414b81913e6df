"""Sizes of what is installed on a board: ``measure`` finds them out, ``record`` keeps and compares them."""
