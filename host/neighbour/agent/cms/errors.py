"""What can be wrong with a message of the Cryptographic Message Syntax.

    CmsError
        MalformedError      it is no such message, or beyond a limit
        UnsupportedError    an algorithm or a kind that is not for us
        SignatureError      it names the check that failed
        DecryptError        the one error of decryption

The texts are short and hold nothing that the peer sent, so that they may stand in a SIP Warning.
"""

__all__ = ["CmsError", "DecryptError", "MalformedError", "SignatureError", "UnsupportedError"]


class CmsError(Exception):
    """A message was refused."""


class MalformedError(CmsError):
    """The bytes are no message of this kind, or more than our limits allow."""


class UnsupportedError(CmsError):
    """An algorithm, a key or a kind of content that we do not take."""


class SignatureError(CmsError):
    """A signature does not hold; the text names the check."""


class DecryptError(CmsError):
    """It could not be decrypted, and nobody learns why.

    No recipient of ours, the wrong key, bad padding, a bad tag: who could tell them apart from outside could try until
    the plaintext is known (Bleichenbacher, Vaudenay), so they are one class and one text.
    """

    def __init__(self) -> None:
        super().__init__("it cannot be decrypted")
