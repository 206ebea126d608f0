"""Which column of a list holds what: told by the manager, known by its name, or guessed from what is in it.

A column has a role, or is one of the lead's own fields. Numbers may have several columns; they keep their order, but
that a column called "number" or "phone" comes before "phone 2". A guess is made for the number alone, and only when
nothing has a name that is known: a wrong one would dial customer numbers or order numbers.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import attrs

from dialer.errors import InputRefusedError

Role = Literal[
    "number",
    "external_key",
    "account",
    "timezone",
    "region",
    "postal_code",
    "priority",
    "list",
    "consent_at",
    "consent_evidence",
    "callback_at",
]
ROLES: Final[tuple[Role, ...]] = (
    *("number", "external_key", "account", "timezone", "region", "postal_code", "priority", "list"),
    *("consent_at", "consent_evidence", "callback_at"),
)
MAX_COLUMNS: Final = 1_000  # each is kept with each lead, also where a row leaves it out
MOST_NUMBERS: Final = 10  # of one lead
GUESSED_FROM: Final = 0.8  # of a column's cells must be numbers for it to be guessed

# As `plain` makes them: lower case, no accents, one _ for whatever divides words. German, French, Spanish,
# Portuguese, Italian, Dutch, Polish, Swedish, Danish, Turkish, Russian beside English.
NAMES: Final[Mapping[Role, tuple[str, ...]]] = {
    "number": (
        *("number", "phone", "phone_number", "phonenumber", "telephone", "telephone_number", "tel", "msisdn", "e164"),
        *("mobile", "mobile_number", "mobile_phone", "cell", "cell_phone", "cellphone", "landline", "contact_number"),
        *("secondary_phone", "alternate_phone", "alt_phone", "other_phone", "home_phone", "work_phone"),
        *("business_phone", "phone_home", "phone_work", "phone_mobile", "primary_phone"),
        *("telefon", "telefonnummer", "telefonnr", "rufnummer", "handy", "handynummer", "mobil", "mobilnummer"),
        *("mobiltelefon", "festnetz", "tel_nr", "telnr", "telefon_privat", "telefon_geschaftlich", "mobilfunk"),
        *("numero", "numero_de_telephone", "numero_telephone", "no_telephone", "portable", "telephone_portable"),
        *("telefono", "numero_de_telefono", "celular", "movil", "telefono_movil", "telefone", "telemovel"),
        *(
            "numero_di_telefono",
            "cellulare",
            "telefoonnummer",
            "telefoon",
            "mobiel",
            "gsm",
            "numer_telefonu",
            "komorka",
        ),
        *("telefonnummer_mobil", "mobilnr", "telefon_numarasi", "cep_telefonu", "телефон", "номер", "номер_телефона"),
        *("мобильныи", "мобильныи_телефон"),  # й is и with an accent to Unicode
    ),
    "external_key": (
        *("external_key", "external_id", "id", "key", "lead_id", "customer_id", "customer_number", "customer_no"),
        *("kundennummer", "kunden_nr", "kundennr", "numero_client", "numero_de_cliente", "id_cliente", "klantnummer"),
    ),
    "account": ("account", "account_id", "account_number", "konto", "vertragsnummer", "contract_number", "compte"),
    "timezone": ("timezone", "time_zone", "tz", "zeitzone", "fuseau_horaire", "zona_horaria"),
    "region": ("region", "state", "province", "bundesland", "provincia", "estado", "us_state", "state_code"),
    "postal_code": (
        *(
            "postal_code",
            "postcode",
            "zip",
            "zip_code",
            "zipcode",
            "plz",
            "postleitzahl",
            "code_postal",
            "cap",
            "cep",
        ),
        *("codigo_postal", "postnummer", "kod_pocztowy"),
    ),
    "priority": ("priority", "prioritat", "priorite", "prioridad"),
    "list": (),  # a list may well have a column of that name: it is only taken when it is told
    "consent_at": ("consent_at", "consent_date", "opt_in_date", "opt_in_at", "einwilligung_am"),
    "consent_evidence": ("consent_evidence", "consent_source", "opt_in_source", "einwilligung_quelle"),
    "callback_at": ("callback_at", "callback", "call_back_at", "wiedervorlage"),
}
# Of the file of refused rows, before those of the list: mended, it is a list again.
REFUSAL_COLUMNS: Final = ("refused line", "refused value", "refused reason")
_COUNTED: Final = re.compile(r"_?([1-9]|10)$")
_ROLE_BY_NAME: Final[Mapping[str, Role]] = {name: role for role, names in NAMES.items() for name in names}
_MAIN_NAMES: Final = frozenset(
    ("number", "phone", "phone_number", "phonenumber", "telephone", "telephone_number", "primary_phone", "msisdn")
)


def plain(name: str) -> str:
    """`name` for comparing: "Téléphone (privé)" and "telephone-prive" are one."""
    letters = unicodedata.normalize("NFKD", name.strip().replace("ß", "ss").lower())
    kept = "".join(each for each in letters if not unicodedata.combining(each))
    return re.sub(r"[\W_]+", "_", kept.replace("#", " number")).strip("_")


@attrs.frozen
class Columns:
    """What each column of a list is for."""

    header: tuple[str, ...]  # a column without a name is "column 3"
    numbers: tuple[int, ...]  # in the order in which they are to be called
    roles: Mapping[Role, int]  # of the other roles, those that are there
    found: Mapping[int, str]  # how the role of a column was found: told, by name, or guessed

    @property
    def number_column(self) -> str:
        """The name of the first column of numbers."""
        return self.header[self.numbers[0]]

    def fields(self) -> list[int]:
        """The columns that are the lead's own fields: those without a role, and some that agents want to see."""
        shown = ("region", "postal_code", "list")
        used = {*self.numbers, *(index for role, index in self.roles.items() if role not in shown)}
        return [index for index, name in enumerate(self.header) if index not in used and name not in REFUSAL_COLUMNS]

    def described(self) -> list[tuple[str, str, str]]:
        """For a person: each column's name, what it is taken for, and why."""
        roles = {index: role for role, index in self.roles.items()}
        order = {index: place for place, index in enumerate(self.numbers, 1)}
        rows: list[tuple[str, str, str]] = []
        for index, name in enumerate(self.header):
            role: str = roles.get(index, "field")
            if index in order:
                role = "number" if len(order) == 1 else f"number {order[index]}"
            rows.append((name, role, self.found.get(index, "")))
        return rows


def parse_told(told: Sequence[str]) -> list[tuple[Role, str]]:
    """What `--column ROLE=NAME` says, in order. Raises InputRefusedError."""
    pairs: list[tuple[Role, str]] = []
    for each in told:
        role, divided, name = each.partition("=")
        role = plain(role)
        known: Role | None = next((one for one in ROLES if one == role), None)
        if not divided or not name.strip() or known is None:
            raise InputRefusedError(f"{each!r} should be ROLE=COLUMN, where ROLE is one of {', '.join(ROLES)}")
        pairs.append((known, name.strip()))
    return pairs


def find_columns(
    path: Path,
    header: Sequence[str],
    told: Sequence[tuple[Role, str]] = (),
    *,
    sample: Sequence[Sequence[str]] = (),
    is_number: Callable[[str], bool] = lambda _: False,
) -> Columns:
    """The columns of the list `path` with this header; `sample` are its first rows, to guess from.

    Raises InputRefusedError when there is no column that can be taken for the number, or one that is told is missing.
    """
    if not any(header):
        raise InputRefusedError(f"{path} is empty: its first line should name the columns")
    if len(header) > MAX_COLUMNS:
        raise InputRefusedError(f"{path} has {len(header)} columns: keep at most {MAX_COLUMNS}")
    named = tuple(name.strip() or f"column {index}" for index, name in enumerate(header, 1))
    names = [plain(name) or name for name in named]
    there = f"{path} has the columns {', '.join(map(repr, named))}"
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputRefusedError(f"{there}: {', '.join(twice)} is there more than once; give each a name of its own")
    if any("\0" in name for name in named):
        raise InputRefusedError(f"{there}, and there is a NUL character in them: this is no list as text")

    numbers: list[int] = []
    roles: dict[Role, int] = {}
    found: dict[int, str] = {}
    for role, name in told:
        index = _named(there, names, name)
        if index in found:
            raise InputRefusedError(f"{path}: the column {name!r} is given two roles; one column has one role")
        found[index] = "told"
        if role == "number":
            numbers.append(index)
        elif role in roles:
            raise InputRefusedError(f"{path}: the role {role} is given twice; only numbers may have several columns")
        else:
            roles[role] = index
    by_name = [(index, known) for index, name in enumerate(names) if index not in found and (known := role_of(name))]
    if not numbers:
        of_numbers = [index for index, known in by_name if known == "number"]
        numbers = sorted(of_numbers, key=lambda index: (_rank(names[index]), index))
    for role in ROLES:
        # Of several names for one thing, that which comes first among those known.
        choices = [index for index, known in by_name if known == role and role != "number"]
        if choices and role not in roles:
            roles[role] = min(choices, key=lambda index: NAMES[role].index(names[index]))
    found |= {index: "by name" for index in (*numbers, *roles.values()) if index not in found}
    if not numbers:
        numbers = [_guessed(there, named, found, sample, is_number)]
        found[numbers[0]] = "guessed from what is in it"
    if len(numbers) > MOST_NUMBERS:
        raise InputRefusedError(f"{there}: {len(numbers)} of them hold numbers; a lead has at most {MOST_NUMBERS}")
    return Columns(named, tuple(numbers), roles, found)


def role_of(name: str) -> Role | None:
    """The role of a column of that plain name; a number's name may be counted ("phone 2")."""
    role = _ROLE_BY_NAME.get(name)
    if role is None:
        uncounted = _COUNTED.sub("", name)
        if uncounted != name and _ROLE_BY_NAME.get(uncounted) == "number":
            return "number"
    return role


def _rank(name: str) -> tuple[int, int]:
    counted = _COUNTED.search(name)
    return 0 if _COUNTED.sub("", name) in _MAIN_NAMES else 1, int(counted[1]) if counted else 1


def _named(there: str, names: Sequence[str], name: str) -> int:
    wanted = plain(name) or name
    if wanted not in names:
        raise InputRefusedError(f"{there}, and none is called {name!r}: name one of those")
    return names.index(wanted)


def _guessed(
    there: str,
    header: Sequence[str],
    found: Mapping[int, str],
    sample: Sequence[Sequence[str]],
    is_number: Callable[[str], bool],
) -> int:
    right = "say which does (--column number=NAME), or call it 'number'; the first line must name the columns"
    good: list[int] = []
    # A header that is a number itself is none: the list begins at once, and its first lead would be lost.
    if not any(is_number(name) for name in header):
        for index in range(len(header)):
            cells = [row[index] for row in sample if index < len(row) and row[index].strip()]
            if index not in found and cells and sum(map(is_number, cells)) >= GUESSED_FROM * len(cells):
                good.append(index)
    if len(good) > 1:
        which = " and ".join(repr(header[index]) for index in good)
        raise InputRefusedError(f"{there}, and {which} could all be numbers to call: {right}")
    if not good:
        raise InputRefusedError(f"{there}, and none of them is known to hold numbers: {right}")
    return good[0]
