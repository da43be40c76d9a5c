"""A masked or encrypted round on one device: keys, the hidden update, and what opens the sum (``privacy.masking``, ``privacy.encryption``).

Between two messages a device's secrets lie in its Home, in one sealed file that is replaced *before* an answer leaves: a device
that is killed and asked again never takes a step twice with the same masks, and what a step no longer needs is gone. An
encrypted round's sum key lies beside it until this device opens the sum, draws the keys of another round, or is sent the
model of that round or a later one, whichever comes first: whoever takes the device after that opens no update with it.

Keys are drawn for one piece of work, the very model, settings and plan of a train order (:func:`privacy.round_work.work_digest`), and a
device hides an update of no other. It hides one update for a run and round, ever: the sums of a round that is done twice, with other
survivors, differ by one device's update.
"""

from __future__ import annotations

import json

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from client.home import Home
from client.participation import require_not_paused, require_part
from client.vault import WrongKey
from model.records import TrainOrder
from model.refusal import Damaged, Refusal
from model.settings import RunSettings
from privacy.encryption import SumForm, SumKey, open_key, seal_key
from privacy.encryption_records import DealtKey, EncryptedUpdate, KeyDelivery, OpenedSum, OpenOrder, signed_key
from privacy.fixed_point import Integers
from privacy.masking import Agreement, MaskedInput, Shares, Unmasking, advertise, agree, mask, share, unmask
from privacy.masking_records import AdvertiseOrder, AgreeOrder, ShareOrder, UnmaskOrder
from privacy.roster import Advertisement, MaskingRound, checked_roster
from privacy.round_secrets import Answered, InputMasked, KeysDrawn, SharesDealt, SurvivorsSigned, UpdateEncrypted
from privacy.round_work import masking_run, work_digest

FILE = "masking.json"
KEY_FILE = "sum-key.bin"
HIDDEN_FILE = "hidden-rounds.json"
KEPT_RUNS = 1000
"""Runs whose last hidden round is remembered."""


def draw_keys(order: AdvertiseOrder, settings: RunSettings, home: Home) -> Advertisement:
    """Begin a masked or encrypted round, if this device agrees to it; the secrets of one that was not finished are gone.

    This device's number is the one under which its key is registered, whatever the server calls it. A device whose person
    sits the round out draws nothing.
    """
    require_not_paused(home.root)  # before it is looked whether this device could: a paused one need not be up to date
    _require_agreed(order, settings, home)
    _require_new(order.round, home)
    require_part(home.root, run=order.round.run, round=order.round.number)
    identity = home.identity
    advertisement, secrets = advertise(order.round, home.register.number_of(identity.public), identity)
    _forget_sum_key(home)
    _keep(home, secrets.to_bytes())
    return advertisement


def _require_agreed(order: AdvertiseOrder, settings: RunSettings, home: Home) -> None:
    asked, fewest, register = order.round.asked, home.policy.fewest_asked, home.register
    if asked != settings.clients_per_round:
        raise Refusal(f"the server asks {asked} devices to mask and the run says {settings.clients_per_round}; nothing was sent")
    if asked < fewest:
        raise Refusal(
            f"the server asks {asked} devices and this one hides its update among at least {fewest}; wait for a larger round, or lower "
            "fewest_asked in device.json"
        )
    if order.register != register.digest:
        raise Refusal(
            f"the server's register of devices is {order.register[:12]} and this device has joined {register.digest[:12]}; get the "
            "server's from who runs the federation and join it by `healing client join`"
        )


def deal_shares(order: ShareOrder, home: Home) -> Shares:
    """Deal this device's secrets among the devices that this device knows by their registered keys."""
    shares, secrets = share(KeysDrawn.from_bytes(_kept(home)), order.advertisements, home.register.devices)
    _keep(home, secrets.to_bytes())
    return shares


def require_keys_for(order: TrainOrder, settings: RunSettings, home: Home) -> None:
    """:class:`Refusal` unless this device drew keys for the very work of this order; before it is paid for and trained."""
    content = _kept(home)
    drawn = KeysDrawn.from_bytes(content) if settings.aggregation == "encrypted" else SharesDealt.from_bytes(content).keys
    if drawn.round.run != masking_run(order.run) or drawn.round.number != order.round or drawn.round.work != work_digest(order, settings):
        raise Refusal(
            f"the order of round {order.round} is for another model, plan or settings than those for which this device drew keys; "
            "nothing was trained or sent"
        )
    _require_new(drawn.round, home)


def mask_update(values: Integers, sealed: dict[int, bytes], home: Home, *, round: int) -> MaskedInput:
    """An update in fixed point, under its masks."""
    secrets = SharesDealt.from_bytes(_kept(home))
    if secrets.keys.round.number != round:
        raise Refusal(f"the order is of round {round} and this device's masks are of round {secrets.keys.round.number}; nothing was sent")
    masked, left = mask(secrets, sealed, values)
    _note_hidden(secrets.keys.round, home)
    _keep(home, left.to_bytes())
    return masked


def make_key(order: ShareOrder, home: Home) -> DealtKey:
    """Make the sum key of an encrypted round and seal it for every other device that this one knows."""
    keys = KeysDrawn.from_bytes(_kept(home))
    roster = checked_roster(keys.round, order.advertisements, home.register.devices)
    key = SumKey.create()
    own = X25519PrivateKey.from_private_bytes(keys.sealing_key)
    others = {device: member.sealing_key for device, member in roster.members.items() if device != keys.device}
    sealed = {device: seal_key(key, run=_named(keys), sender=own, receiver=public) for device, public in others.items()}
    home.sealed(KEY_FILE).write(key.to_bytes())
    return signed_key(keys.round, keys.device, key.digest, sealed, home.identity)


def encrypt_update(values: Integers, given: KeyDelivery, home: Home, *, round: int) -> EncryptedUpdate:
    """An update in fixed point, under the round's sum key; once a round."""
    keys = KeysDrawn.from_bytes(_kept(home))
    if keys.round.number != round or given.dealt.round != keys.round:
        raise Refusal(f"the order is of round {round} and this device's keys are of round {keys.round.number}; nothing was sent")
    key = _sum_key(given, keys, home)
    form = SumForm(key.digest, len(values), keys.round.asked)
    update = EncryptedUpdate(keys.round, keys.device, key.encrypt(values, form))
    _note_hidden(keys.round, home)
    home.sealed(KEY_FILE).write(key.to_bytes())
    _keep(home, UpdateEncrypted(keys.round, keys.device, len(values)).to_bytes())
    return update


def open_sum(order: OpenOrder, home: Home) -> OpenedSum:
    """Open the sum of a round in which this device took part; once, and then the key is gone."""
    held = UpdateEncrypted.from_bytes(_kept(home))
    if order.count < held.round.threshold:
        raise Refusal(f"the sum is said to be of {order.count} updates and {held.round.threshold} are needed; it was not opened")
    key = _kept_sum_key(home)
    _keep(home, Answered(held.round, held.device).to_bytes())
    _forget_sum_key(home)
    form = SumForm(key.digest, held.parameters, held.round.asked)
    try:
        values = key.decrypt(order.total, form, fewest=held.round.threshold)
    except Refusal:  # one answer for every fault: which one it was would tell about the key
        raise Refusal("the sum does not open; the round is lost") from None
    return OpenedSum(held.round, held.device, values)


def end_round(home: Home, *, round: int) -> None:
    """The model of ``round`` is out, so its sum was opened or never will be: what opens an update of it, or of one before, goes.

    That is the sum key, and the keys drawn for the round with which a device that did not get so far could still unseal it.
    """
    held = _still_encrypting(home)
    if held is not None and held.round.number > round:
        return
    _forget_sum_key(home)
    if held is not None:
        _keep(home, Answered(held.round, held.device).to_bytes())


def _still_encrypting(home: Home) -> KeysDrawn | UpdateEncrypted | None:
    """What is left of an encrypted round that is not over for this device; without it no sum key here opens anything."""
    for step in (KeysDrawn, UpdateEncrypted):
        try:
            return step.from_bytes(_kept(home))
        except Refusal:
            continue
    return None


def _kept_sum_key(home: Home) -> SumKey:
    try:
        return SumKey.from_bytes(home.sealed(KEY_FILE).read())
    except FileNotFoundError:
        raise Refusal("this device holds no sum key of this round any more; it can take part in the next") from None


def _forget_sum_key(home: Home) -> None:
    (home.root / KEY_FILE).unlink(missing_ok=True)


def _sum_key(given: KeyDelivery, keys: KeysDrawn, home: Home) -> SumKey:
    """The round's key: this device's own if it made it, else as a registered device made, signed and sealed it for this one."""
    maker, dealt, registered = given.maker, given.dealt, home.register.devices
    if maker.device not in registered or dealt.device != maker.device or maker.round != keys.round:
        raise Refusal("the round's key is of no registered device, or of another round; nothing was sent")
    maker.require_signed(registered[maker.device])
    dealt.require_signed(registered[maker.device])
    if maker.device == keys.device:
        key = _kept_sum_key(home)
        if key.digest != dealt.digest:
            raise Refusal("the round's key is not the one that this device made; nothing was sent")
        return key
    if keys.device not in dealt.sealed:
        raise Refusal("the order brings no sum key that is sealed for this device; it sits this round out")
    own = X25519PrivateKey.from_private_bytes(keys.sealing_key)
    return open_key(dealt.sealed[keys.device], run=_named(keys), digest=dealt.digest, receiver=own, sender=maker.sealing_key)


def _named(keys: KeysDrawn) -> str:
    return f"{keys.round.run}:{keys.round.number}:{keys.round.asked}"


def sign_survivors(order: AgreeOrder, home: Home) -> Agreement:
    """Agree to the one list of survivors that this device will unmask."""
    agreement, secrets = agree(InputMasked.from_bytes(_kept(home)), order.survivors, home.identity)
    _keep(home, secrets.to_bytes())
    return agreement


def reveal_shares(order: UnmaskOrder, home: Home) -> Unmasking:
    """What this device gives to unmask the sum; afterwards it holds no secret of the round."""
    unmasking, over = unmask(SurvivorsSigned.from_bytes(_kept(home)), order.signatures, home.register.devices)
    _keep(home, over.to_bytes())
    return unmasking


def _require_new(round: MaskingRound, home: Home) -> None:
    last = _hidden_rounds(home).get(round.run, -1)
    if round.number <= last:
        raise Refusal(
            f"the server asks for round {round.number} and this device hid an update in round {last} of the run; a round that is done "
            "twice would tell one device's update, go on with the next"
        )


def _note_hidden(round: MaskingRound, home: Home) -> None:
    """On disk before the update leaves: a crash can only cost this device the round."""
    _require_new(round, home)
    known = {run: number for run, number in _hidden_rounds(home).items() if run != round.run} | {round.run: round.number}
    home.sealed(HIDDEN_FILE).write(json.dumps(dict(list(known.items())[-KEPT_RUNS:])).encode())


def _hidden_rounds(home: Home) -> dict[str, int]:
    """By run, the last round in which this device hid an update; the run that was last, last."""
    if not (home.root / HIDDEN_FILE).exists():
        return {}
    try:
        known: dict[str, int] = json.loads(home.sealed(HIDDEN_FILE).read())
    except WrongKey:
        raise Damaged(
            f"'{home.root / HIDDEN_FILE}' is damaged, so in which rounds this device hid an update is unknown; it hides none until it "
            "is removed, which only the federation's people may judge to be safe"
        ) from None
    return known


def _keep(home: Home, secrets: bytes) -> None:
    home.sealed(FILE).write(secrets)


def _kept(home: Home) -> bytes:
    if not (home.root / FILE).exists():  # looked for before the key is: a device that masks nothing may lack it
        raise Refusal("this device has begun no masked round; it can take part in the next")
    try:
        return home.sealed(FILE).read()
    except WrongKey:
        raise Refusal("the stored secrets of this round are damaged; sit the round out") from None
