"""What the terminal speaks, by its configuration: its own side of every offer and answer."""

from os import urandom

from sipwire import srtp
from sipwire.streams import Speaks

__all__ = ["speaks"]

_SUITES = (b"AES_CM_128_HMAC_SHA1_80", b"AES_CM_128_HMAC_SHA1_32")  # preferred first


def speaks(config):
    """What the terminal speaks. Text has the second RTP port behind that of audio."""
    audio_port = config.rtp_port if config.payload_types else 0
    text_port = config.rtp_port + 2 if config.text else 0
    return Speaks(audio_port, config.payload_types, _SUITES, _new_key, text_port, config.srtp, True, True, plain=True)


def _new_key(suite):
    """A fresh master key and salt."""
    return urandom(srtp.SUITES[suite].key_salt_bytes)
