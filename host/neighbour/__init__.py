"""The host side of Wisp: the neighbour proxy that does TLS, certificates and registration for weak terminals."""
