"""RFC 6962 section 2.1 as the RFC writes it: recursive, over the data itself, and slow. The oracle for `ledger.merkle`.

MTH, PATH and PROOF are the three definitions of sections 2.1, 2.1.1 and 2.1.2, with the RFC's names and cases.
Nothing of ours is imported here.
"""

from __future__ import annotations

from hashlib import sha256


def largest_power_of_two_below(n: int) -> int:
    """The k of the RFC: the largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d: list[bytes]) -> bytes:
    """MTH(D[n]): the Merkle Tree Hash."""
    n = len(d)
    if n == 0:
        return sha256().digest()
    if n == 1:
        return sha256(bytes([0x00]) + d[0]).digest()
    k = largest_power_of_two_below(n)
    return sha256(bytes([0x01]) + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: list[bytes]) -> list[bytes]:
    """PATH(m, D[n]): the audit path of the (m+1)th input."""
    n = len(d)
    if n == 1:
        return []
    k = largest_power_of_two_below(n)
    if m < k:
        return [*path(m, d[:k]), mth(d[k:])]
    return [*path(m - k, d[k:]), mth(d[:k])]


def proof(m: int, d: list[bytes]) -> list[bytes]:
    """PROOF(m, D[n]): the consistency proof, for 0 < m < n."""
    return subproof(m, d, complete=True)


def subproof(m: int, d: list[bytes], *, complete: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b)."""
    n = len(d)
    if m == n:
        return [] if complete else [mth(d)]
    k = largest_power_of_two_below(n)
    if m <= k:
        return [*subproof(m, d[:k], complete=complete), mth(d[k:])]
    return [*subproof(m - k, d[k:], complete=False), mth(d[:k])]
