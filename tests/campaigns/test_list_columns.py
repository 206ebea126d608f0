from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from campaigns.list_columns import NAMES, Columns, find_columns, parse_told, plain, role_of
from campaigns.numbers import parse_number
from dialer.errors import InputRefusedError

LIST = Path("list.csv")


def is_number(text: str) -> bool:
    try:
        parse_number(text, "US")
    except InputRefusedError:
        return False
    return True


def found(header: str, *told: str, sample: Sequence[str] = ()) -> Columns:
    rows = [row.split(",") for row in sample]
    return find_columns(LIST, header.split(","), parse_told(told), sample=rows, is_number=is_number)


def test_every_name_is_plain_and_means_one_thing() -> None:
    names = [name for role in NAMES.values() for name in role]
    assert len(names) == len(set(names))
    for name in names:
        assert plain(name) == name


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Phone Number", "number"),
        ("TÉLÉPHONE", "number"),
        ("Teléfono móvil", "number"),
        ("Telefon geschäftlich", "number"),
        ("phone-2", "number"),
        ("Mobile 3", "number"),
        ("phone 11", None),
        ("Мобильный телефон", "number"),
        ("Kunden-Nr.", "external_key"),
        ("ID", "external_key"),
        ("PLZ", "postal_code"),
        ("Time Zone", "timezone"),
        ("list", None),
        ("name", None),
    ],
)
def test_columns_are_known_by_name(name: str, role: str | None) -> None:
    assert role_of(plain(name)) == role


@pytest.mark.parametrize(
    ("header", "told", "numbers"),
    [
        ("mobile,name,phone", [], ["phone", "mobile"]),  # the main number first, whatever stands where
        ("phone 2,phone 1x,phone", [], ["phone", "phone 2"]),
        ("phone 3,phone 2,mobile", [], ["phone 2", "phone 3", "mobile"]),
        ("Phone1,Phone2,Phone3", [], ["Phone1", "Phone2", "Phone3"]),
        ("mobile,tel 2,tel 1", [], ["mobile", "tel 1", "tel 2"]),
        ("name,primary phone,secondary phone", [], ["primary phone", "secondary phone"]),
        ("phone,mobile", ["number=mobile", "number=Phone"], ["mobile", "phone"]),
        ("phone,desk", ["number=desk"], ["desk"]),  # what is told is all there is
    ],
)
def test_numbers_are_in_order(header: str, told: list[str], numbers: list[str]) -> None:
    columns = found(header, *told)
    assert [columns.header[index] for index in columns.numbers] == numbers


def test_roles_by_name_and_told_and_the_rest_is_the_leads_own() -> None:
    columns = found("phone,id,customer_id,state,PLZ,shoe size,when", "callback_at=When")
    roles = {role: columns.header[index] for role, index in columns.roles.items()}
    assert roles == {"external_key": "id", "region": "state", "postal_code": "PLZ", "callback_at": "when"}
    assert [columns.header[index] for index in columns.fields()] == ["customer_id", "state", "PLZ", "shoe size"]
    assert columns.described()[-1] == ("when", "callback_at", "told")


def test_the_number_is_guessed_from_what_is_in_it() -> None:
    sample = ["Ann,2125550100,7", "Bo,(212) 555-0101,8", "Cy,,9", "Di,2125550102,10", "Ed,2125550103,11"]
    columns = found("who,where to,n", sample=sample)
    assert (columns.number_column, columns.found[1]) == ("where to", "guessed from what is in it")


@pytest.mark.parametrize(
    ("header", "told", "sample", "complaint"),
    [
        ("who,n", [], ["Ann,2125550100", "Bo,x", "Cy,y"], "none of them is known to hold numbers"),
        ("a,b", [], ["2125550100,2125550101"], "'a' and 'b' could all be numbers to call"),
        ("2125550100,Ann", [], ["2125550101,Bo"], "the first line must name the columns"),
        ("phone,x", ["number=y"], [], "none is called 'y'"),
        ("phone,x", ["number=phone", "region=phone"], [], "the column 'phone' is given two roles"),
        ("phone,x,y", ["region=x", "region=y"], [], "the role region is given twice"),
        ("phone,Phone", [], [], "phone is there more than once"),
        (",".join(f"phone {i}" for i in range(2, 11)) + ",phone,mobile", [], [], "a lead has at most 10"),
        ("phone,\0", [], [], "a NUL character"),
        ("", [], [], "is empty"),
    ],
)
def test_what_cannot_be_told_is_asked(header: str, told: list[str], sample: list[str], complaint: str) -> None:
    with pytest.raises(InputRefusedError, match=complaint):
        found(header, *told, sample=sample)


@pytest.mark.parametrize("told", ["number", "number=", "colour=x", "=x"])
def test_what_is_told_has_a_grammar(told: str) -> None:
    with pytest.raises(InputRefusedError, match="should be ROLE=COLUMN"):
        parse_told([told])
