"""What the attacks share: labs with emulated terminals."""

from calls.conftest import lab

__all__ = ["lab"]
