"""Noise: the ChaCha12 counter generator, the rounded Gaussian that is released, the float Gaussian that is not.

Every random word is a function of (key, nonce, position), so results do not depend on chunks or threads.
Words come in chunks of BLOCKS ChaCha blocks; word w of block b in a chunk stands at position w * BLOCKS + b.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._jit import jit
from .exact_normal import rounded_quantile

UInt32 = NDArray[np.uint32]
Int64 = NDArray[np.int64]
Float = NDArray[np.float64]

BLOCKS = 64  # ChaCha blocks in a chunk: 4 KiB of words, a quarter of the first-level cache with all buffers
WORDS = 16 * BLOCKS
PER_CHUNK = WORDS // 2  # samples of 64 bits in a chunk
MOST_DEVIATION = 2.0**40  # largest S: beyond it the float estimate no longer separates the cells
EXTENSION = 1  # added to the nonce for the further bits of an ambiguous sample

# Relative error of the float64 inverse normal below, 64 units of 2**-53; at most 48 are proved in
# docs/privacy/rounded_gaussian.md (rounding by the standard model, approximation by certificate in the tests).
RELATIVE_ERROR = 2.0**-47
# Smallest tail probability that is decided in float64; the approximation ends at exp(-25) = 2**-36.07.
SMALLEST_TAIL = 2.0**-36

AMBIGUOUS = np.int64(-(2**63))  # marks a sample that needs more bits

_u32 = np.uint32
_u64 = np.uint64


@jit()
def _quarter_round(a: Any, b: Any, c: Any, d: Any) -> Any:
    a = _u32(a + b)
    d = _u32(d ^ a)
    d = _u32((d << _u32(16)) | (d >> _u32(16)))
    c = _u32(c + d)
    b = _u32(b ^ c)
    b = _u32((b << _u32(12)) | (b >> _u32(20)))
    a = _u32(a + b)
    d = _u32(d ^ a)
    d = _u32((d << _u32(8)) | (d >> _u32(24)))
    c = _u32(c + d)
    b = _u32(b ^ c)
    b = _u32((b << _u32(7)) | (b >> _u32(25)))
    return a, b, c, d


@jit()
def _double_round(
    x0: Any, x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any, x7: Any,
    x8: Any, x9: Any, x10: Any, x11: Any, x12: Any, x13: Any, x14: Any, x15: Any,
) -> Any:
    x0, x4, x8, x12 = _quarter_round(x0, x4, x8, x12)
    x1, x5, x9, x13 = _quarter_round(x1, x5, x9, x13)
    x2, x6, x10, x14 = _quarter_round(x2, x6, x10, x14)
    x3, x7, x11, x15 = _quarter_round(x3, x7, x11, x15)
    x0, x5, x10, x15 = _quarter_round(x0, x5, x10, x15)
    x1, x6, x11, x12 = _quarter_round(x1, x6, x11, x12)
    x2, x7, x8, x13 = _quarter_round(x2, x7, x8, x13)
    x3, x4, x9, x14 = _quarter_round(x3, x4, x9, x14)
    return x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15


@jit()
def chacha12(words: UInt32, key: UInt32, nonce: np.uint64, first: np.uint64) -> None:
    """ChaCha with 12 rounds (Bernstein 2008), 64-bit block counter and 64-bit nonce, original layout.

    words (16 * blocks,) uint32 out, word-major; key (8,) uint32; nonce, first: uint64, first block counter.
    Cost: 576 additions, exclusive ors and rotations a block, vectorised over blocks.
    """
    blocks = words.size // 16
    high = _u32(nonce >> _u64(32))
    low = _u32(nonce & _u64(0xFFFFFFFF))
    k0, k1, k2, k3, k4, k5, k6, k7 = key[0], key[1], key[2], key[3], key[4], key[5], key[6], key[7]
    for b in range(blocks):
        counter = first + _u64(b)
        c0 = _u32(counter & _u64(0xFFFFFFFF))
        c1 = _u32(counter >> _u64(32))
        x0, x1, x2, x3 = _u32(0x61707865), _u32(0x3320646E), _u32(0x79622D32), _u32(0x6B206574)
        x4, x5, x6, x7, x8, x9, x10, x11 = k0, k1, k2, k3, k4, k5, k6, k7
        x12, x13, x14, x15 = c0, c1, low, high
        s = _double_round(x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15)
        s = _double_round(*s)
        s = _double_round(*s)
        s = _double_round(*s)
        s = _double_round(*s)
        x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = _double_round(*s)
        words[b] = _u32(x0 + _u32(0x61707865))
        words[blocks + b] = _u32(x1 + _u32(0x3320646E))
        words[2 * blocks + b] = _u32(x2 + _u32(0x79622D32))
        words[3 * blocks + b] = _u32(x3 + _u32(0x6B206574))
        words[4 * blocks + b] = _u32(x4 + k0)
        words[5 * blocks + b] = _u32(x5 + k1)
        words[6 * blocks + b] = _u32(x6 + k2)
        words[7 * blocks + b] = _u32(x7 + k3)
        words[8 * blocks + b] = _u32(x8 + k4)
        words[9 * blocks + b] = _u32(x9 + k5)
        words[10 * blocks + b] = _u32(x10 + k6)
        words[11 * blocks + b] = _u32(x11 + k7)
        words[12 * blocks + b] = _u32(x12 + c0)
        words[13 * blocks + b] = _u32(x13 + c1)
        words[14 * blocks + b] = _u32(x14 + low)
        words[15 * blocks + b] = _u32(x15 + high)


@jit()
def _logarithm(u: Any) -> Any:
    """ln u of a normal float64: atanh series to the power 21, at most 7 units of 2**-53 relative for u < 0.08."""
    bits = np.float64(u).view(np.int64)
    e = (bits - np.int64(0x3FE6A09E667F3BCD)) >> np.int64(52)
    m = np.int64(bits - (e << np.int64(52))).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    t = 1 / 15 + z * (1 / 17 + z * (1 / 19 + z * (1 / 21)))
    t = 1.0 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11 + z * (1 / 13 + z * t))))))
    return np.float64(e) * 0.6931471805599453 + 2.0 * s * t


@jit()
def inverse_normal_centre(q: Any) -> Any:
    """Phi^-1(1/2 + q) for |q| <= 0.425 by Wichura's AS 241 (Applied Statistics 37, 1988), PPND16."""
    r = 0.180625 - q * q
    a = 2509.0809287301226727 * r + 33430.575583588128105
    a = (a * r + 67265.770927008700853) * r + 45921.953931549871457
    a = (a * r + 13731.693765509461125) * r + 1971.5909503065514427
    a = (a * r + 133.14166789178437745) * r + 3.3871328727963666080
    b = 5226.4952788528545610 * r + 28729.085735721942674
    b = (b * r + 39307.895800092710610) * r + 21213.794301586595867
    b = (b * r + 5394.1960214247511077) * r + 687.18700749205790830
    b = (b * r + 42.313330701600911252) * r + 1.0
    return q * a / b


@jit()
def inverse_normal_tail(p: Any) -> Any:
    """-Phi^-1(p) for exp(-25) <= p <= 0.075, same source."""
    r = math.sqrt(-_logarithm(p)) - 1.6
    a = 7.74545014278341407640e-4 * r + 2.27238449892691845833e-2
    a = (a * r + 2.41780725177450611770e-1) * r + 1.27045825245236838258
    a = (a * r + 3.64784832476320460504) * r + 5.76949722146069140550
    a = (a * r + 4.63033784615654529590) * r + 1.42343711074968357734
    b = 1.05075007164441684324e-9 * r + 5.47593808499534494600e-4
    b = (b * r + 1.51986665636164571966e-2) * r + 1.48103976427480074590e-1
    b = (b * r + 6.89767334985100004550e-1) * r + 1.67638483018380384940
    b = (b * r + 2.05319162663775882187) * r + 1.0
    return a / b


@jit(fastmath={"contract"})
def inverse_normals(words: UInt32, x: Float, error: Float) -> None:
    """x_i = Phi^-1(U_i) for the PER_CHUNK samples of a chunk, and a proved bound on |x_i - Phi^-1(U_i)|.

    U_i = 1/2 + (Q_i + theta) / 2**64, theta in [0, 1) still unknown, Q_i the signed number of words i, i + PER_CHUNK.
    error_i is infinite in the far tail, where x_i is cut off. Both branches run over contiguous arrays, so that they
    vectorise: the centre for all samples, then the tail for the 15 % that need it.
    """
    centred = np.empty(PER_CHUNK, np.int64)
    where = np.empty(PER_CHUNK + 1, np.int64)
    tail = np.empty(PER_CHUNK, np.uint64)
    tail_x = np.empty(PER_CHUNK)
    tail_error = np.empty(PER_CHUNK)
    edge = np.int64(0.425 * 2.0**64)
    for i in range(PER_CHUNK):
        signed = np.int64((_u64(words[i]) << _u64(32)) | _u64(words[PER_CHUNK + i]))
        centred[i] = signed
        x[i] = inverse_normal_centre(np.float64(signed) * 2.0**-64)
        error[i] = RELATIVE_ERROR * abs(x[i]) + 2.0**-60  # theta moves x by at most 7.1 * 2**-64
    m = 0
    for i in range(PER_CHUNK):
        where[m] = i
        m += (centred[i] > edge) | (centred[i] < -edge)
    for j in range(m):
        signed = centred[where[j]]
        tail[j] = _u64(1 << 63) - _u64(signed) if signed >= 0 else _u64(signed) - _u64(1 << 63)
    for j in range(m):
        p = np.float64(tail[j]) * 2.0**-64
        tail_x[j] = inverse_normal_tail(max(p, SMALLEST_TAIL))
        # theta moves p by at most 2**-64, hence x by at most that over phi(x) >= p x (Mills), doubled for safety.
        known = RELATIVE_ERROR * tail_x[j] + 2.0**-63 / (p * tail_x[j])
        tail_error[j] = known if p > SMALLEST_TAIL else np.inf
    for j in range(m):
        i = where[j]
        x[i] = tail_x[j] if centred[i] >= 0 else -tail_x[j]
        error[i] = tail_error[j]


@jit(fastmath={"contract"})
def rounded_gaussian(
    out: Int64, deviation: float, key: UInt32, nonce: np.uint64, first_chunk: np.uint64
) -> int:
    """out_i = round(S Phi^-1(U_i)) where float64 decides it, else AMBIGUOUS; returns the number of the latter.

    out (n,) int64; deviation S in (0, 2**40] grid units; key (8,) uint32; nonce, first_chunk uint64.
    Cost: 2 words and about 40 multiplications a sample. Source: contracts 2 and 3, docs/privacy/rounded_gaussian.md.
    """
    words = np.empty(WORDS, np.uint32)
    x = np.empty(PER_CHUNK)
    error = np.empty(PER_CHUNK)
    ambiguous = 0
    for chunk in range((out.size + PER_CHUNK - 1) // PER_CHUNK):
        chacha12(words, key, nonce, (first_chunk + _u64(chunk)) * _u64(BLOCKS))
        inverse_normals(words, x, error)
        start = chunk * PER_CHUNK
        samples = out[start : start + PER_CHUNK]
        for i in range(samples.size):
            y = deviation * x[i]
            k = math.floor(y + 0.5)
            decided = abs(y - k) < 0.5 - deviation * error[i]
            samples[i] = np.int64(k) if decided else AMBIGUOUS
            ambiguous += not decided
    return ambiguous


def draw_rounded_gaussian(n: int, deviation: float, key: UInt32, nonce: int = 0, n_jobs: int = 1) -> Int64:
    """n samples of round(N(0, S^2)), (n,) int64: the kernel, with its ambiguous samples decided exactly.

    key (8,) uint32 contiguous. A sample that 512 bits cannot decide (probability below 2**-320) becomes 0.
    """
    out = np.empty(n, dtype=np.int64)

    def work(start: int, stop: int) -> None:
        part = out[start:stop]
        if rounded_gaussian(part, deviation, key, np.uint64(nonce), np.uint64(start // PER_CHUNK)):
            for i in np.flatnonzero(part == AMBIGUOUS):
                part[i] = decide(start + int(i), deviation, key, nonce)

    in_chunks(work, n, PER_CHUNK, n_jobs)
    return out


def decide(i: int, deviation: float, key: UInt32, nonce: int) -> int:
    """Sample i from its 64 bits and, while these cannot tell, the 448 further bits of block i of nonce + 1."""
    words = np.empty(WORDS, dtype=np.uint32)
    chunk, j = divmod(i, PER_CHUNK)
    chacha12(words, key, np.uint64(nonce), np.uint64(chunk * BLOCKS))
    signed = (int(words[j]) << 32) | int(words[PER_CHUNK + j])
    u = (signed + 2**63) % 2**64
    more = np.empty(16, dtype=np.uint32)
    chacha12(more, key, np.uint64(nonce + EXTENSION), np.uint64(i))
    for bits in (64, 128, 256, 512):
        longer = u
        for word in more[: (bits - 64) // 32]:
            longer = (longer << 32) | int(word)
        k = rounded_quantile(longer, bits, deviation)
        if k is not None:
            return k
    return 0


def in_chunks(work: Callable[[int, int], object], n: int, size: int, n_jobs: int) -> None:
    """work(start, stop) over [0, n) cut at multiples of ``size``, on n_jobs Python threads."""
    chunks = -(-n // size)
    if n_jobs == 1 or chunks < 2:
        work(0, n)
        return
    cuts = [min(n, size * (chunks * t // n_jobs)) for t in range(n_jobs + 1)]
    with ThreadPoolExecutor(n_jobs) as pool:
        list(pool.map(work, cuts[:-1], cuts[1:]))


# From here on: simulation. Floating-point noise leaks through its representable values; it is never released.


@jit()
def normals(words: UInt32, out: NDArray[Any]) -> None:
    """Standard normals from random words by Box and Muller (1958): float32, one a word; float64, one a pair of words.

    Not a private mechanism. The tail is cut at a probability of 2**-33 in float32, 2**-64 in float64.
    """
    if out.itemsize == 4:
        _box_muller_32(words, out)
    else:
        _box_muller_64(words.view(np.uint64), out)


# Each of the two has its whole arithmetic in its loop: LLVM does not vectorise calls that it found too long to inline.


@jit(fastmath={"contract"})
def _box_muller_32(words: UInt32, out: NDArray[np.float32]) -> None:
    """Radius from the first half of the words, octant and angle below pi/4 from the second; 7 digits."""
    half = words.size // 2
    for i in range(half):
        u = np.float32(words[i]) * np.float32(2.0**-32) + np.float32(2.0**-33)
        bits = np.float32(u).view(np.int32)
        e = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
        m = np.int32(bits - np.int32(e << np.int32(23))).view(np.float32)
        s = (m - np.float32(1)) / (m + np.float32(1))
        z = s * s
        t = np.float32(1 / 5) + z * (np.float32(1 / 7) + z * np.float32(1 / 9))
        t = np.float32(1) + z * (np.float32(1 / 3) + z * t)
        radius = np.sqrt(np.float32(-2) * (np.float32(e) * np.float32(0.69314718) + np.float32(2) * s * t))
        turn = words[half + i]
        angle = np.float32(np.int32(turn >> _u32(3))) * np.float32(math.pi / 4 * 2.0**-29)
        z = angle * angle
        s = np.float32(1 / 120) + z * np.float32(-1 / 5040)
        sine = angle * (np.float32(1) + z * (np.float32(-1 / 6) + z * s))
        c = np.float32(1 / 24) + z * (np.float32(-1 / 720) + z * np.float32(1 / 40320))
        cosine = np.float32(1) + z * (np.float32(-1 / 2) + z * c)
        out[i], out[half + i] = _turned(radius, sine, cosine, turn)


@jit(fastmath={"contract"})
def _box_muller_64(pairs: NDArray[np.uint64], out: Float) -> None:
    """The same from words of 64 bits; 15 digits, by the logarithm above and Taylor's series."""
    half = pairs.size // 2
    for i in range(half):
        u = (np.float64(np.int64(pairs[i] >> _u64(1))) + 0.5) * 2.0**-63
        radius = np.sqrt(-2.0 * _logarithm(u))
        turn = pairs[half + i]
        angle = np.float64(np.int64(turn >> _u64(3))) * (math.pi / 4 * 2.0**-61)
        z = angle * angle
        s = 1 / 362880 + z * (-1 / 39916800 + z * (1 / 6227020800 + z * (-1 / 1307674368000)))
        sine = angle + angle * (z * (-1 / 6 + z * (1 / 120 + z * (-1 / 5040 + z * s))))
        c = -1 / 3628800 + z * (1 / 479001600 + z * (-1 / 87178291200 + z * (1 / 20922789888000)))
        cosine = 1.0 + z * (-1 / 2 + z * (1 / 24 + z * (-1 / 720 + z * (1 / 40320 + z * c))))
        out[i], out[half + i] = _turned(radius, sine, cosine, turn)


@jit()
def _turned(radius: Any, sine: Any, cosine: Any, bits: Any) -> Any:
    """The coordinates of a point with this angle below pi/4, moved into one of eight octants by three random bits."""
    swap = (bits & 1) != 0
    first = sine if swap else cosine
    second = cosine if swap else sine
    first = first if (bits & 2) != 0 else -first
    second = second if (bits & 4) != 0 else -second
    return radius * first, radius * second


@jit()
def fill_normals(
    out: NDArray[Any], scale: float, key: UInt32, nonce: np.uint64, first_chunk: np.uint64
) -> None:
    """out_i = scale * N(0, 1) for simulation; out (n,) float32 (WORDS a chunk) or float64 (PER_CHUNK a chunk)."""
    per = WORDS * 4 // out.itemsize
    words = np.empty(WORDS, np.uint32)
    chunk_normals = np.empty(per, out.dtype)
    for chunk in range((out.size + per - 1) // per):
        chacha12(words, key, nonce, (first_chunk + _u64(chunk)) * _u64(BLOCKS))
        normals(words, chunk_normals)
        start = chunk * per
        for i in range(min(per, out.size - start)):
            out[start + i] = chunk_normals[i] * scale
