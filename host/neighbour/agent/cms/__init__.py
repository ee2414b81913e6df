"""Cryptographic Message Syntax (RFC 5652, 5083, 8591): what S/MIME in SIP is made of.

signed.py      sign, verify          certificates-only messages
enveloped.py   encrypt, decrypt      signed or enveloped: ``kind_of``
    signatures.py   which signature algorithms there are
    recipients.py   how a key reaches a recipient
        certificates.py   what a message says of a certificate
        structures.py     the ASN.1, read and written
            ber.py        what is BER and not DER, put right
        errors.py
"""
