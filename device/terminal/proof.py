"""Proving who we are, and asking for a proof in return: what makes an agreement (WIRE section 1.1), digest and all.

Loaded on demand: for a moment at each step of an agreement, which is made once in a long while.
"""

from os import urandom

from sipwire.agreement import HOP_NONCE_BYTES, best, client_offer, hop_spi, parse_mechanisms
from sipwire.digest import Credentials, authenticate, choose
from sipwire.errors import SecurityError
from sipwire.grammar import get_param, parse_params, split_list
from sipwire.kdf import same

from .useragent import token

__all__ = ["check", "is_stale", "propose", "prove"]


def propose():
    """What an agreement begins with: (our SPI, our nonce, the Security-Client value that tells them)."""
    spi = 0
    while spi == 0:
        spi = int.from_bytes(urandom(4), "big")
    nonce = urandom(HOP_NONCE_BYTES)
    return spi, nonce, client_offer(spi, nonce)


def is_stale(config, response):
    """Whether a 401 says that only the nonce was too old."""
    challenge = choose(response.get_all("www-authenticate"), config.domain)
    return challenge is not None and challenge.stale


def prove(config, response, uri):
    """Answer a challenge.

    Args:
        config: the terminal's.
        response: the 401.
        uri: the Request-URI of our next REGISTER.

    Returns:
        (nonce of the challenge, its Security-Server value as it came, the SPI in that, our Authorization value, what
        `check` needs).

    Raises:
        ParseError, SecurityError: it is no challenge of our domain's that can be answered, or no offer of `wisp-hop`.
    """
    challenge = choose(response.get_all("www-authenticate"), config.domain)
    servers = response.get_all("security-server")
    if challenge is None or len(servers) != 1:
        raise SecurityError("challenge")
    mechanism = best(parse_mechanisms(split_list(servers[0], b",")), (b"wisp-hop",))
    if mechanism is None:
        raise SecurityError("mechanism")
    made = authenticate(challenge, config.auth_user, config.ha1, "REGISTER", uri, token(), integrity=True)
    # Nothing but data: an object would keep its code.
    memo = (made.username, made.realm, made.nonce, made.uri, made.algorithm, made.qop, made.nc, made.cnonce)
    return challenge.nonce, servers[0], hop_spi(mechanism), made.serialize(), memo


def check(config, memo, response):
    """Check the neighbour's proof in its 200.

    Raises:
        ParseError, SecurityError: it does not know our secret.
    """
    proof = get_param(parse_params(split_list(response.get("authentication-info") or b"", b",")), "rspauth")
    wanted = Credentials(*memo).compute(config.ha1, "", response.body)
    if proof is None or not same(proof.lower(), wanted):
        raise SecurityError("rspauth")
