"""What Wisp costs, measured: the terminal's memory and SRTP, the codec, the neighbour beside a peer."""
