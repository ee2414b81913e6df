"""The terminal: a SIP phone for a weak device, on MicroPython.

Runs on an ESP32-class board and, as an emulated device, on MicroPython's unix port. `app` wires the parts together.
"""
