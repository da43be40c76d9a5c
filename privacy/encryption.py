"""Sums of encrypted updates: BFV (Fan & Vercauteren 2012, eprint 2012/144) over packed integers, by TenSEAL (arXiv 2104.03152).

**Promise.** From ciphertexts the server learns their size, how many devices sent one, and the decrypted sum: no single
update. The sum is exact, integer for integer.
**For whom**: each device's update of a round.
**Against whom**: a server that follows the protocol, and whoever reads what it stores or relays. *Not* against a device that works
with the server: the devices share one secret key, and any of them opens every ciphertext. *Not* against a server that cheats: one
that has a device open a chosen ciphertext in place of the sum reads an update, or works out the key. Masking is built against both.
**Assumptions**: no device gives the key away; the server cannot enrol a device of its own, nor swap a public key (the caller has
verified whose each X25519 key is); each device encrypts once, and opens once, in a round; SEAL's randomness, seeded by the
operating system. What a ciphertext holds cannot be checked: a device may send any values of 32 bits, or spoil the round, and nobody
learns which one it was. A sum is not differential privacy: what it tells is bounded only if the updates were noised.
**Afterwards**: ciphertexts that somebody recorded stay closed once the devices have dropped the key, each when it opens the sum, draws
keys for another round, or is sent that round's model or a later one (``client.blind``). One that hears of neither keeps the key.
**Security**: ring degree 8192 and 96 bits of coefficient modulus, where the Homomorphic Encryption Standard (2018) allows 218 for
128-bit security. Encryption is symmetric: there is no public key, and the server holds ciphertexts and the key's digest.

**How the round ends.** The server cannot open the sum, so a device does, and could answer with anything. Let the server ask two
that it draws at random and refuse the round if their answers differ: one that lies is then found out, two that lie together are not.

**Cost**: 12 bytes a parameter, three times float32 (:func:`megabytes`): a chunk of 8192 slots is 2 x 8192 coefficients of 48 bits,
packed without loss; TenSEAL's own form takes 15 % more. A plaintext prime of 33 bits holds a whole 32-bit sum in a slot, so that
nothing is cut into residues or digits; 48 bits is the least that holds the noise of 1,024 summands whatever was drawn. A seed in
place of the second polynomial would halve the size; TenSEAL does not write one to memory.
**Shapes**: update (D,) int64, within ``SumForm.largest``; ciphertext: 48 bytes of head and ceil(D / 8191) chunks of 98,304. The
last slot of a chunk holds 1, so that the sum's holds the number of devices: another key or a damaged chunk shows there.

The server adds coefficients modulo q, which is all that adding in BFV is: it needs neither TenSEAL nor a key, and no native
code reads what a device sends. No threshold scheme was found that installs on Python 3.11, adds exactly and is free to use.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from model.refusal import Refusal
from privacy.fixed_point import LARGEST, Integers, centred

DEGREE = 8192
"""Slots of a chunk, and coefficients of a polynomial."""
PLAIN_MODULUS = 4_295_049_217
"""t: the least prime above 2^32 that is 1 modulo 2 * 8192, as packing demands. Every sum within +-(2^31 - 1) is its own residue."""
COEFFICIENT_MODULUS = 281_474_976_546_817
"""q: the prime of 48 bits that SEAL chooses for ciphertexts."""
COEFFICIENT_BITS = 48
KEY_MODULUS_BITS = 2 * COEFFICIENT_BITS
"""SEAL sets a second prime aside for keys; it travels with no ciphertext, but counts against the security bound."""
MOST_SUMMANDS = 1024
"""A fresh coefficient's noise is at most 21 and its rounding 1/2 (SEAL's centred binomial), and 1024 * 21.5 < q / 2t = 32,767."""
BUDGET_MB = 20.0
"""Messages of 20 MB have passed through every transport that was tried, and messages of 370 MB failed: 1.6 million parameters."""

VALUES_PER_CHUNK = DEGREE - 1
_BYTES = COEFFICIENT_BITS // 8
_CHUNK = 2 * DEGREE * _BYTES
_HEAD = struct.Struct("<4s32sQI")
_MAGIC = b"FHS1"
_SEALING = b"feelinghealing sum key v1"
_SALT = 32

Coefficients = npt.NDArray[np.uint64]


def megabytes(parameters: int) -> float:
    """Size of one ciphertext, and of the sum, in MB (10^6 bytes); exact."""
    return _size(parameters) / 1e6


@dataclass(frozen=True)
class SumForm:
    """What server and devices agree on before a round; all that the server ever holds of the key is its digest.

    Raises :class:`Refusal`, before anything is encrypted, if the ciphertexts would be larger than ``budget_mb``.
    """

    key_digest: str
    parameters: int
    summands: int
    budget_mb: float = BUDGET_MB

    def __post_init__(self) -> None:
        if len(self.key_digest) != 64 or set(self.key_digest) - set("0123456789abcdef"):
            raise Refusal(f"the key's digest has {len(self.key_digest)} characters; it must be 64 hexadecimal digits, take it from the key")
        if not 2 <= self.summands <= MOST_SUMMANDS:
            raise Refusal(f"{self.summands} devices are to be summed encrypted; it must be at least 2 and at most {MOST_SUMMANDS}")
        if self.parameters < 1:
            raise Refusal(f"{self.parameters} parameters are to be encrypted; it must be at least 1, check tuning")
        if not megabytes(self.parameters) <= self.budget_mb:
            raise Refusal(
                f"{self.parameters} encrypted parameters are {megabytes(self.parameters):.1f} MB a device and the most is "
                f"{self.budget_mb:g} MB; train fewer of them (tuning head or lora), or use masking"
            )

    @property
    def largest(self) -> int:
        """The largest absolute value that one device may send: no sum of ``summands`` of them leaves 32 bits."""
        return int(LARGEST // self.summands)


def read_without_key(ciphertext: bytes, form: SumForm) -> Integers:
    """What is to be seen of a ciphertext (D,): of D coefficients of its first polynomial the upper 32 bits, within +-2^31. For audits."""
    coefficients, _ = _opened(ciphertext, form)
    first = coefficients.reshape(-1, 2, DEGREE)[:, 0, :VALUES_PER_CHUNK].ravel()[: form.parameters]
    return centred((first >> np.uint64(COEFFICIENT_BITS - 32)).astype(np.uint32))


class EncryptedSum:
    """Server: a running sum of ciphertexts that are seen once and not kept."""

    def __init__(self, form: SumForm) -> None:
        self.form = form
        self.count = 0
        self._total: Coefficients = np.zeros(_chunks(form.parameters) * 2 * DEGREE, dtype=np.uint64)

    def add(self, ciphertext: bytes) -> None:
        """Add one device's ciphertext; after a :class:`Refusal` the sum is what it was before."""
        coefficients, count = _opened(ciphertext, self.form)
        if count != 1:
            raise Refusal(f"a ciphertext says that it sums {count} devices; one device sends its own update only")
        if self.count >= self.form.summands:
            raise Refusal(f"a ciphertext came after {self.count} others and no more fit into the sum; raise summands")
        self._total += coefficients  # below 2^58 after 1,024 of them: reduced once, at the end
        self.count += 1

    def value(self) -> bytes:
        """The encrypted sum so far; :class:`Refusal` for fewer than two devices, whose sum would be an update."""
        if self.count < 2:
            raise Refusal(f"{self.count} devices were summed; a sum hides an update only among others, wait for at least 2")
        return _closed(self._total % np.uint64(COEFFICIENT_MODULUS), self.form, self.count)


class SumKey:
    """Devices: the secret that encrypts updates and opens their sum. It never goes to the server in the clear."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._context = _context(content)

    @classmethod
    def create(cls) -> SumKey:
        """A new key, of SEAL's randomness."""
        return cls(_new_secret())

    @classmethod
    def from_bytes(cls, content: bytes) -> SumKey:
        """The key that :meth:`to_bytes` gave; :class:`Refusal` if these bytes are none."""
        return cls(content)

    def to_bytes(self) -> bytes:
        """The secret key, 98,304 bytes; seal it before it leaves (:func:`seal_key`)."""
        return self._content

    @property
    def digest(self) -> str:
        """Names the key and tells nothing of it (SHA-256 over 13,000 bits of entropy)."""
        return hashlib.sha256(_SEALING + self._content).hexdigest()

    def __repr__(self) -> str:
        return f"SumKey({self.digest[:12]})"

    def encrypt(self, update: Integers, form: SumForm) -> bytes:
        """One device's update (D,) as a ciphertext; :class:`Refusal` for a value beyond ``form.largest``."""
        self._require_named(form)
        _require_fits(update, form)
        chunks = [self._encrypted(row) for row in _slots(update)]
        return _closed(np.concatenate(chunks), form, 1)

    def decrypt(self, total: bytes, form: SumForm, *, fewest: int = 2) -> Integers:
        """The sum (D,), exactly; :class:`Refusal` if it was damaged or if it sums fewer than ``fewest`` devices."""
        self._require_named(form)
        coefficients, count = _opened(total, form)
        if not max(2, fewest) <= count <= form.summands:
            raise Refusal(f"the sum is of {count} devices and one of {max(2, fewest)} to {form.summands} is opened; ask more devices")
        slots = np.stack([self._decrypted(chunk) for chunk in coefficients.reshape(-1, 2 * DEGREE)])
        values = slots[:, :VALUES_PER_CHUNK].ravel()
        padding = values[form.parameters :]
        if (slots[:, -1] != count).any() or padding.any() or np.abs(values).max() > count * form.largest:
            raise Refusal("the sum does not open to what devices may have sent; it was damaged or mixed with another, repeat the round")
        return values[: form.parameters]

    def _encrypted(self, slots: Integers) -> Coefficients:
        vector = _tenseal().bfv_vector(self._context, slots.tolist())
        return _coefficients_of(_fields(vector.serialize())[2], _CIPHERTEXT_PREFIX)

    def _decrypted(self, coefficients: Coefficients) -> Integers:
        wire = _wire()
        chunk = _field(1, _varint(DEGREE)) + _field(2, wire.seal_object(wire.ciphertext_prefix, coefficients))
        return np.array(_tenseal().bfv_vector_from(self._context, chunk).decrypt(), dtype=np.int64)

    def _require_named(self, form: SumForm) -> None:
        if form.key_digest != self.digest:
            raise Refusal(f"the round is for key {form.key_digest[:12]} and this device holds {self.digest[:12]}; fetch the round's key")


def seal_key(key: SumKey, *, run: str, sender: X25519PrivateKey, receiver: bytes) -> bytes:
    """The key for one device, through a server that cannot read it; ``receiver`` is that device's X25519 public key (32 bytes).

    Whoever holds ``receiver``'s private half opens every ciphertext of the run: verify first whose it is. Both halves
    enter the shared secret, so nobody but ``sender`` could have sealed what :func:`open_key` opens. X25519 (RFC 7748),
    HKDF-SHA256 over run, digest, sender and receiver, ChaCha20-Poly1305 (RFC 8439).
    """
    salt = os.urandom(_SALT)
    box = _box(sender, receiver, salt, (run.encode(), key.digest.encode(), _public(sender), receiver))
    return salt + box.encrypt(bytes(12), key.to_bytes(), None)  # a key of its own for every salt, so the nonce may stand still


def open_key(sealed: bytes, *, run: str, digest: str, receiver: X25519PrivateKey, sender: bytes) -> SumKey:
    """The key that ``sender`` (its verified X25519 public key, 32 bytes) sealed for this device, this run and this digest."""
    salt = sealed[:_SALT]
    box = _box(receiver, sender, salt, (run.encode(), digest.encode(), sender, _public(receiver)))
    try:
        key = SumKey.from_bytes(box.decrypt(bytes(12), sealed[_SALT:], None))
    except InvalidTag:
        raise Refusal(f"the sealed key {digest[:12]} does not open; it was damaged or is of another device or run, ask again") from None
    if key.digest != digest:
        raise Refusal(f"the sealed key is {key.digest[:12]} and {digest[:12]} was announced; its sender must announce the key it seals")
    return key


def _box(own: X25519PrivateKey, other: bytes, salt: bytes, bound: tuple[bytes, ...]) -> ChaCha20Poly1305:
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise Refusal(f"a public key of {len(other)} bytes is no X25519 key to seal for; it must be 32 bytes and not degenerate") from None
    info = _SEALING + b"".join(len(part).to_bytes(4, "big") + part for part in bound)
    return ChaCha20Poly1305(HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(shared))


def _public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def _require_fits(update: Integers, form: SumForm) -> None:
    if update.dtype != np.int64 or update.shape != (form.parameters,):
        raise Refusal(f"the update is {update.dtype} of shape {update.shape}; the round sums int64 of shape ({form.parameters},)")
    largest = max(int(update.max()), -int(update.min()))
    if largest > form.largest:
        raise Refusal(f"the update holds a whole number of size {largest} and {form.largest} is the most that fits; lower the clip norm")


def _slots(update: Integers) -> Integers:
    """The update in rows of 8191, zeros at the end, and a 1 after each row; (chunks, 8192)."""
    slots = np.ones((_chunks(update.size), DEGREE), dtype=np.int64)
    slots[:, :-1] = np.pad(update, (0, _chunks(update.size) * VALUES_PER_CHUNK - update.size)).reshape(-1, VALUES_PER_CHUNK)
    return slots


def _chunks(parameters: int) -> int:
    return math.ceil(parameters / VALUES_PER_CHUNK)


def _size(parameters: int) -> int:
    return _HEAD.size + _chunks(parameters) * _CHUNK


def _closed(coefficients: Coefficients, form: SumForm, count: int) -> bytes:
    """Head and coefficients as they travel."""
    return _HEAD.pack(_MAGIC, bytes.fromhex(form.key_digest), form.parameters, count) + _packed(coefficients)


def _opened(ciphertext: bytes, form: SumForm) -> tuple[Coefficients, int]:
    """Coefficients and number of devices; raises :class:`Refusal` for whatever is no ciphertext of this form."""
    if len(ciphertext) != _size(form.parameters):
        raise Refusal(f"a ciphertext has {len(ciphertext)} bytes and {_size(form.parameters)} are due; both sides must train the same")
    magic, digest, parameters, count = _HEAD.unpack_from(ciphertext)
    if (magic, parameters) != (_MAGIC, form.parameters):
        raise Refusal("a ciphertext's head is not of this round's form; it was damaged on its way, or the device runs another version")
    if digest.hex() != form.key_digest:
        raise Refusal(f"a ciphertext is of key {digest.hex()[:12]} and the round's is {form.key_digest[:12]}; fetch the round's key")
    coefficients = _unpacked(ciphertext[_HEAD.size :])
    if coefficients.max() >= COEFFICIENT_MODULUS:
        raise Refusal(f"a ciphertext holds a coefficient that is not below {COEFFICIENT_MODULUS}; it was damaged on its way")
    return coefficients, count


def _packed(coefficients: Coefficients) -> bytes:
    """48 bits each, little-endian."""
    return coefficients.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :_BYTES].tobytes()


def _unpacked(content: bytes) -> Coefficients:
    words = np.zeros((len(content) // _BYTES, 8), dtype=np.uint8)
    words[:, :_BYTES] = np.frombuffer(content, dtype=np.uint8).reshape(-1, _BYTES)
    return words.view("<u8").ravel().astype(np.uint64, copy=False)


# TenSEAL keeps SEAL's objects in protocol buffers, compressed; what follows takes out their coefficients and puts them back.

_SEAL_HEAD = struct.Struct("<HBBBBHQ")
"""Magic number, its own length, version (2), compression (0 none, 2 Zstandard), reserved, length of the whole object."""
_CIPHERTEXT_PREFIX, _KEY_PREFIX = 97, 72
"""Bytes of a SEAL ciphertext and secret key before their 2 x 8192 coefficients of 64 bits."""
_PARAMETERS = 89
"""Bytes of SEAL's encryption parameters."""
_ZSTANDARD = 2
_OTHER_TENSEAL = "this TenSEAL writes other primes or forms than 0.3.18; run pip install 'feelinghealing[encryption]' for the one that fits"


@dataclass(frozen=True)
class _Wire:
    """What is the same in every context, ciphertext and key that this version of TenSEAL writes."""

    parameters: bytes
    public: bytes
    version: tuple[int, int]
    ciphertext_prefix: bytes
    key_prefix: bytes

    def seal_object(self, prefix: bytes, coefficients: Coefficients) -> bytes:
        """An uncompressed SEAL object."""
        content = prefix + coefficients.astype("<u8").tobytes()
        return _SEAL_HEAD.pack(0xA15E, _SEAL_HEAD.size, *self.version, 0, 0, _SEAL_HEAD.size + len(content)) + content


def _tenseal() -> Any:
    try:
        return importlib.import_module("tenseal")
    except ImportError:
        raise Refusal("encryption needs TenSEAL, which is not installed; run pip install 'feelinghealing[encryption]'") from None


def _new_context() -> Any:
    tenseal = _tenseal()
    return tenseal.context(
        tenseal.SCHEME_TYPE.BFV,
        DEGREE,
        plain_modulus=PLAIN_MODULUS,
        coeff_mod_bit_sizes=[COEFFICIENT_BITS, KEY_MODULUS_BITS - COEFFICIENT_BITS],
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
        n_threads=1,
    )


def _context_fields(context: Any) -> dict[int, bytes]:
    content = context.serialize(save_public_key=False, save_secret_key=True, save_galois_keys=False, save_relin_keys=False)
    return _fields(content)


def _new_secret() -> bytes:
    return _packed(_coefficients_of(_fields(_context_fields(_new_context())[3])[1], _KEY_PREFIX))


def _context(secret: bytes) -> Any:
    """A TenSEAL context of our parameters around the secret key's coefficients; no other parameters can be smuggled in."""
    if len(secret) != _CHUNK:
        raise Refusal(f"a sum key has {_CHUNK} bytes and this has {len(secret)}; it was damaged on its way")
    tenseal, wire = _tenseal(), _wire()
    private = _field(1, wire.seal_object(wire.key_prefix, _unpacked(secret)))
    content = _field(1, wire.parameters) + _field(2, wire.public) + _field(3, private) + _varint(4 << 3) + _varint(1)
    try:
        return tenseal.context_from(content, n_threads=1)
    except (ValueError, RuntimeError):  # SEAL's words would tell nothing that the next move depends on
        raise Refusal("these bytes are no sum key: a coefficient is not below its modulus; it was damaged on its way") from None


@lru_cache(maxsize=1)
def _wire() -> _Wire:
    """Read off a context and a ciphertext that are thrown away; refuses a TenSEAL whose forms are not those known here."""
    context = _new_context()
    fields = _context_fields(context)
    ciphertext = _fields(_tenseal().bfv_vector(context, [0] * DEGREE).serialize())[2]
    parameters = _uncompressed(fields[1], _PARAMETERS)
    if any(modulus.to_bytes(8, "little") not in parameters for modulus in (COEFFICIENT_MODULUS, PLAIN_MODULUS)):
        raise Refusal(_OTHER_TENSEAL)
    return _Wire(
        fields[1],
        fields[2],
        (ciphertext[3], ciphertext[4]),
        _uncompressed(ciphertext, _CIPHERTEXT_PREFIX + 2 * DEGREE * 8)[:_CIPHERTEXT_PREFIX],
        _uncompressed(_fields(fields[3])[1], _KEY_PREFIX + 2 * DEGREE * 8)[:_KEY_PREFIX],
    )


def _coefficients_of(seal_object: bytes, prefix: int) -> Coefficients:
    content = _uncompressed(seal_object, prefix + 2 * DEGREE * 8)
    return np.frombuffer(content, dtype="<u8", offset=prefix).astype(np.uint64, copy=False)


def _uncompressed(seal_object: bytes, size: int) -> bytes:
    """What stands in an object that SEAL has written here; never called with bytes that came from elsewhere."""
    compression = _SEAL_HEAD.unpack_from(seal_object)[4]
    if compression != _ZSTANDARD:
        raise Refusal(_OTHER_TENSEAL)
    try:
        return bytes(pa.Codec("zstd").decompress(seal_object[_SEAL_HEAD.size :], decompressed_size=size, asbytes=True))
    except (pa.ArrowInvalid, OSError):
        raise Refusal(_OTHER_TENSEAL) from None


def _fields(message: bytes) -> dict[int, bytes]:
    """The fields of a protocol buffer by number; of TenSEAL's, those of bytes are unique, and no other is asked for."""
    fields, at = {}, 0
    while at < len(message):
        key, at = _read_varint(message, at)
        if key & 7 == 0:
            _, end = _read_varint(message, at)
        elif key & 7 == 1:
            end = at + 8
        else:
            length, at = _read_varint(message, at)
            end = at + length
        fields[key >> 3] = message[at:end]
        at = end
    return fields


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while message[at] & 128:
        value |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1


def _varint(value: int) -> bytes:
    content = bytearray()
    while value > 127:
        content.append(value & 127 | 128)
        value >>= 7
    return bytes(content) + bytes([value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content
