"""The media relay: packets of a call that go by way of the neighbour."""
