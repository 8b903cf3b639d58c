"""The second factor: codes of an authenticator app (TOTP) and recovery codes, kept by django-allauth."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import qrcode
import qrcode.image.svg
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.contrib.auth.models import User
from django.core import signing
from django.db import transaction

from console.accounts.services import AccountError
from controlplane.records.services import audit

ISSUER = "Llumdeck"
PENDING_SALT = "llumdeck.totp"
PENDING_S = 600


@dataclass(frozen=True, slots=True)
class Begun:
    """A secret that counts only once a code of it was shown."""

    secret: str
    uri: str
    qr_svg: str
    pending: str
    """To be kept by the session and given back with the first code; signed, valid for ten minutes."""


def is_needed(person: Any) -> bool:
    return bool(Authenticator.objects.filter(user_id=person.pk, type=Authenticator.Type.TOTP).exists())


def people_with_one() -> set[int]:
    """Ids of those who have a second factor. One query."""
    rows = Authenticator.objects.filter(type=Authenticator.Type.TOTP)
    return set(rows.values_list("user_id", flat=True))


def recovery_codes_left(person: Any) -> int:
    row = Authenticator.objects.filter(user_id=person.pk, type=Authenticator.Type.RECOVERY_CODES).first()
    return len(RecoveryCodes(row).get_unused_codes()) if row is not None else 0


def accepts(person: Any, code: str) -> bool:
    """Whether the code is the app's of this moment, or an unused recovery code (used up by this)."""
    plain = code.replace(" ", "")
    for row in Authenticator.objects.filter(user_id=person.pk):
        if row.type == Authenticator.Type.TOTP and totp.TOTP(row).validate_code(plain):
            return True
        if row.type == Authenticator.Type.RECOVERY_CODES and RecoveryCodes(row).validate_code(plain):
            row.record_usage()
            return True
    return False


def begin(person: User) -> Begun:
    """A new secret, not in force yet. Raises :class:`AccountError` where there is one already."""
    if is_needed(person):
        raise AccountError("you have a second factor already; remove it first")
    secret = totp.generate_totp_secret()
    uri = f"otpauth://totp/{ISSUER}:{person.username}?secret={secret}&issuer={ISSUER}"
    pending = signing.dumps({"user": person.pk, "secret": secret}, salt=PENDING_SALT)
    return Begun(secret=secret, uri=uri, qr_svg=_qr_svg(uri), pending=pending)


@transaction.atomic
def confirm(person: User, *, pending: str, code: str) -> list[str]:
    """Put the secret in force; returns the recovery codes, this once. Raises :class:`AccountError`."""
    try:
        known = signing.loads(pending, salt=PENDING_SALT, max_age=PENDING_S)
    except signing.BadSignature:
        raise AccountError("begin anew: nothing was begun in this session within ten minutes") from None
    if known["user"] != person.pk or is_needed(person):
        raise AccountError("begin anew: this was begun by somebody else or is in force already")
    if not totp.validate_totp_code(known["secret"], code.replace(" ", "")):
        raise AccountError("is not the code of this moment; check the clock of your device", "code")
    totp.TOTP.activate(person, known["secret"])
    RecoveryCodes.activate(person)
    _audit(person, "person.second_factor.add")
    return _codes(person)


@transaction.atomic
def remove(person: User, *, code: str) -> None:
    """Take it away; takes a code, so that a session left open cannot do it. Raises :class:`AccountError`."""
    if not is_needed(person):
        raise AccountError("you have no second factor")
    if not accepts(person, code):
        raise AccountError("is not the code of this moment, nor a recovery code", "code")
    Authenticator.objects.filter(user_id=person.pk).delete()
    _audit(person, "person.second_factor.remove")


@transaction.atomic
def renew_recovery_codes(person: User, *, code: str) -> list[str]:
    """New recovery codes; the old ones end. Raises :class:`AccountError`."""
    if not is_needed(person) or not accepts(person, code):
        raise AccountError("is not the code of this moment, nor a recovery code", "code")
    Authenticator.objects.filter(user_id=person.pk, type=Authenticator.Type.RECOVERY_CODES).delete()
    RecoveryCodes.activate(person)
    _audit(person, "person.recovery_codes.renew")
    return _codes(person)


def _codes(person: User) -> list[str]:
    row = Authenticator.objects.get(user_id=person.pk, type=Authenticator.Type.RECOVERY_CODES)
    codes: list[str] = RecoveryCodes(row).get_unused_codes()
    return codes


def _qr_svg(uri: str) -> str:
    image = qrcode.make(uri, image_factory=qrcode.image.svg.SvgPathImage)
    buffer = BytesIO()
    image.save(buffer)
    return buffer.getvalue().decode()


def _audit(person: User, action: str) -> None:
    audit(actor=person.username, action=action, object_type="person", object_id=person.username)
