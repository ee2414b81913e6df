"""The pins that a board's microphone, amplifier, button and lamp are wired to, where nobody says otherwise.

By chip, as device/README.md's pictures have them: ``board`` of wisp.json.
"""

__all__ = ["C3_MICROPHONE", "PINS", "of_machine"]

_NO_MICROPHONE = {"mic_sck": -1, "mic_ws": -1, "mic_sd": -1}
_NO_SPEAKER = {"speaker_sck": -1, "speaker_ws": -1, "speaker_sd": -1}

#: By the name of the chip in what MicroPython says of the machine. An ESP32-C3 has one I2S unit: here a speaker's.
PINS: dict[str, dict[str, int]] = {
    "ESP32": {
        "mic_sck": 32,
        "mic_ws": 25,
        "mic_sd": 33,
        "speaker_sck": 26,
        "speaker_ws": 27,
        "speaker_sd": 22,
        "button": 0,
        "led": 2,
    },
    "ESP32S3": {
        "mic_sck": 5,
        "mic_ws": 4,
        "mic_sd": 6,
        "speaker_sck": 16,
        "speaker_ws": 15,
        "speaker_sd": 17,
        "button": 0,
        "led": -1,
    },
    "ESP32C3": {**_NO_MICROPHONE, "speaker_sck": 0, "speaker_ws": 1, "speaker_sd": 10, "button": 9, "led": -1},
}
#: An ESP32-C3 with a microphone in place of a speaker.
C3_MICROPHONE = {"mic_sck": 0, "mic_ws": 1, "mic_sd": 3, **_NO_SPEAKER, "button": 9, "led": -1}


def of_machine(machine: str) -> dict[str, int]:
    """The pins of a board; {} where the program's own defaults fit, or nobody knows.

    Args:
        machine: what MicroPython says that it is, like ``Generic ESP32S3 module with ESP32S3``.
    """
    chip = machine.rsplit(maxsplit=1)[-1] if machine.split() else ""
    return {} if chip == "ESP32" else dict(PINS.get(chip, {}))
