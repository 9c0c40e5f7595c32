"""What must an answer of the app be, byte for byte? Known to the app and to every client, to nobody between.

The app proves with a key what it received and from whom; an answer that was meant for another person or
request, or that lost or gained a byte on the way, proves something else.
"""

import hashlib
import hmac

KEY = b"endure: known to the app and to its clients"


def digest(body):
    return hashlib.sha256(body).hexdigest()


def mac(*words):
    return hmac.new(KEY, "\n".join(words).encode(), "sha256").hexdigest()


def answer(method, target, who, body_digest, size):
    """The body of an answer: the proof, then `size` bytes that only it can bring forth."""
    proof = mac(method, target, who, body_digest).encode()
    return proof + b"\n" + hashlib.shake_128(proof).digest(size)


def event(target, who, number):
    return mac("EVENT", target, who, str(number))


def message(target, who, text):
    return mac("SOCKET", target, who, text)
