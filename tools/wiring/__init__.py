"""The wiring pictures of device/README.md: ``boards`` has the facts, ``picture`` draws them."""
