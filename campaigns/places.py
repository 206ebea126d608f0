"""Where in the United States and Canada somebody is, as lists say it: by area code, state or postal code.

Those two countries are large enough for the country alone to say little of the hour, and their lists name the place
by rule. Elsewhere a region is kept as it is given (ISO 3166-2) and the zones are the number's own.

Sources: area codes from the numbering plan's administrators (NANPA, CNA) as of 2026, held equal to what the phone
number library knows of them by a test; postal codes from the USPS's list L002 (three-digit prefixes by state) and
Canada Post (the first letter is the province); zones from the tz database. A state with several zones has them all,
since its name alone does not say which: such a lead is called only when all of them allow it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import attrs


@attrs.frozen
class Place:
    """A region (ISO 3166-2, "US-FL") and the zones that are in it."""

    region: str
    zones: tuple[str, ...]


_EAST, _CENTRAL, _MOUNTAIN, _PACIFIC = "America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"
_TORONTO, _EDMONTON, _HALIFAX = "America/Toronto", "America/Edmonton", "America/Halifax"

_ZONES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        [
            *("US-CT", "US-DC", "US-DE", "US-GA", "US-MA", "US-MD", "US-ME", "US-NC", "US-NH", "US-NJ", "US-NY"),
            *("US-OH", "US-PA", "US-RI", "US-SC", "US-VA", "US-VT", "US-WV"),
        ],
        (_EAST,),
    ),
    **dict.fromkeys(
        ["US-AL", "US-AR", "US-IA", "US-IL", "US-LA", "US-MN", "US-MO", "US-MS", "US-OK", "US-WI"], (_CENTRAL,)
    ),
    **dict.fromkeys(["US-CO", "US-MT", "US-NM", "US-UT", "US-WY"], (_MOUNTAIN,)),
    **dict.fromkeys(["US-CA", "US-WA"], (_PACIFIC,)),
    **dict.fromkeys(["US-FL", "US-KY", "US-TN"], (_EAST, _CENTRAL)),
    **dict.fromkeys(["US-KS", "US-ND", "US-NE", "US-SD", "US-TX"], (_CENTRAL, _MOUNTAIN)),
    "US-AK": ("America/Anchorage", "America/Adak"),
    "US-AZ": ("America/Phoenix", _MOUNTAIN),  # the Navajo Nation puts its clocks forward
    "US-HI": ("Pacific/Honolulu",),
    "US-ID": ("America/Boise", _PACIFIC),
    "US-IN": ("America/Indiana/Indianapolis", _CENTRAL),
    "US-MI": ("America/Detroit", "America/Menominee"),
    "US-NV": (_PACIFIC, _MOUNTAIN),
    "US-OR": (_PACIFIC, "America/Boise"),
    "US-PR": ("America/Puerto_Rico",),
    "US-VI": ("America/St_Thomas",),
    "US-GU": ("Pacific/Guam",),
    "CA-AB": (_EDMONTON,),
    "CA-BC": ("America/Vancouver", _EDMONTON, "America/Fort_Nelson"),
    "CA-MB": ("America/Winnipeg",),
    "CA-NB": ("America/Moncton",),
    "CA-NL": ("America/St_Johns", "America/Goose_Bay"),
    "CA-NS": (_HALIFAX,),
    "CA-NT": (_EDMONTON,),
    "CA-NU": ("America/Iqaluit", "America/Rankin_Inlet", _EDMONTON),
    "CA-ON": (_TORONTO, "America/Winnipeg", "America/Atikokan"),
    "CA-PE": (_HALIFAX,),
    "CA-QC": (_TORONTO, _HALIFAX, "America/Blanc-Sablon"),
    "CA-SK": ("America/Regina", _EDMONTON),
    "CA-YT": ("America/Whitehorse",),
}

_NAMES = """
US-AL Alabama; US-AK Alaska; US-AZ Arizona; US-AR Arkansas; US-CA California; US-CO Colorado; US-CT Connecticut;
US-DE Delaware; US-DC District of Columbia; US-DC Washington D.C.; US-FL Florida; US-GA Georgia; US-HI Hawaii;
US-ID Idaho; US-IL Illinois; US-IN Indiana; US-IA Iowa; US-KS Kansas; US-KY Kentucky; US-LA Louisiana; US-ME Maine;
US-MD Maryland; US-MA Massachusetts; US-MI Michigan; US-MN Minnesota; US-MS Mississippi; US-MO Missouri;
US-MT Montana; US-NE Nebraska; US-NV Nevada; US-NH New Hampshire; US-NJ New Jersey; US-NM New Mexico; US-NY New York;
US-NC North Carolina; US-ND North Dakota; US-OH Ohio; US-OK Oklahoma; US-OR Oregon; US-PA Pennsylvania;
US-PR Puerto Rico; US-RI Rhode Island; US-SC South Carolina; US-SD South Dakota; US-TN Tennessee; US-TX Texas;
US-UT Utah; US-VT Vermont; US-VA Virginia; US-WA Washington; US-WV West Virginia; US-WI Wisconsin; US-WY Wyoming;
US-GU Guam; US-VI U.S. Virgin Islands; US-VI Virgin Islands;
CA-AB Alberta; CA-BC British Columbia; CA-MB Manitoba; CA-NB New Brunswick; CA-NL Newfoundland and Labrador;
CA-NS Nova Scotia; CA-NT Northwest Territories; CA-NU Nunavut; CA-ON Ontario; CA-PE Prince Edward Island;
CA-QC Quebec; CA-QC Québec; CA-SK Saskatchewan; CA-YT Yukon
"""

_AREA_CODES = """
CA-AB 368 403 587 780 825; CA-BC 236 250 257 604 672 778; CA-MB 204 431 584; CA-NB 428 506; CA-NL 709 879;
CA-ON 226 249 289 343 365 382 416 437 519 548 613 647 683 705 742 753 807 905 942;
CA-QC 263 273 354 367 418 438 450 468 514 579 581 819 873; CA-SK 306 474 639;
US-AK 907; US-AL 205 251 256 334 659 938; US-AR 327 479 501 870; US-AZ 480 520 602 623 928;
US-CA 209 213 279 310 323 341 350 369 408 415 424 442 510 530 559 562 619 626 628 650 657 661 669 707 714 738 747 760
 805 818 820 831 840 858 909 916 925 949 951;
US-CO 303 719 720 748 970 983; US-CT 203 475 860 959; US-DC 202 771; US-DE 302;
US-FL 239 305 321 324 352 386 407 448 561 645 656 689 727 728 754 772 786 813 850 863 904 941 954;
US-GA 229 404 470 478 678 706 762 770 912 943; US-HI 808; US-IA 319 515 563 641 712; US-ID 208 986;
US-IL 217 224 309 312 331 447 464 618 630 708 730 773 779 815 847 872; US-IN 219 260 317 463 574 765 812 930;
US-KS 316 620 785 913; US-KY 270 364 502 606 859; US-LA 225 318 337 504 985;
US-MA 339 351 413 508 617 774 781 857 978; US-MD 227 240 301 410 443 667; US-ME 207;
US-MI 231 248 269 313 517 586 616 734 810 906 947 989; US-MN 218 320 507 612 651 763 952;
US-MO 235 314 417 557 573 636 660 816 975; US-MS 228 601 662 769; US-MT 406;
US-NC 252 336 472 704 743 828 910 919 980 984; US-ND 701; US-NE 308 402 531; US-NH 603;
US-NJ 201 551 609 640 732 848 856 862 908 973; US-NM 505 575; US-NV 702 725 775;
US-NY 212 315 329 332 347 363 516 518 585 607 631 646 680 716 718 838 845 914 917 929 934;
US-OH 216 220 234 283 326 330 380 419 440 513 567 614 740 937; US-OK 405 539 572 580 918; US-OR 458 503 541 971;
US-PA 215 223 267 272 412 445 484 570 582 610 717 724 814 835 878; US-RI 401; US-SC 803 821 839 843 854 864;
US-SD 605; US-TN 423 615 629 731 865 901 931;
US-TX 210 214 254 281 325 346 361 409 430 432 469 512 682 713 726 737 806 817 830 832 903 915 936 940 945 956 972 979;
US-UT 385 435 801; US-VA 276 434 540 571 686 703 757 804 826 948; US-VT 802; US-WA 206 253 360 425 509 564;
US-WI 262 274 353 414 534 608 715 920; US-WV 304 681; US-WY 307
"""

_ZIP = """
005 NY; 006-007 PR; 008 VI; 009 PR; 010-027 MA; 028-029 RI; 030-038 NH; 039-049 ME; 050-054 VT; 055 MA; 056-059 VT;
060-069 CT; 070-089 NJ; 100-149 NY; 150-196 PA; 197-199 DE; 200 DC; 201 VA; 202-205 DC; 206-219 MD; 220-246 VA;
247-268 WV; 270-289 NC; 290-299 SC; 300-319 GA; 320-339 FL; 341-349 FL; 350-369 AL; 370-385 TN; 386-397 MS;
398-399 GA; 400-427 KY; 430-459 OH; 460-479 IN; 480-499 MI; 500-528 IA; 530-549 WI; 550-567 MN; 569 DC; 570-577 SD;
580-588 ND; 590-599 MT; 600-629 IL; 630-658 MO; 660-679 KS; 680-693 NE; 700-714 LA; 716-729 AR; 730-732 OK; 733 TX;
734-749 OK; 750-799 TX; 800-816 CO; 820-831 WY; 832-838 ID; 840-847 UT; 850-865 AZ; 870-884 NM; 885 TX; 889-898 NV;
900-961 CA; 967-968 HI; 969 GU; 970-979 OR; 980-994 WA; 995-999 AK
"""  # 090-098, 340 and 962-966 are the forces', who are anywhere

_CANADA_POST = {"A": "NL", "B": "NS", "C": "PE", "E": "NB", "R": "MB", "S": "SK", "T": "AB", "V": "BC", "Y": "YT"} | {
    **dict.fromkeys("GHJ", "QC"),
    **dict.fromkeys("KLMNP", "ON"),
}  # X is the Northwest Territories and Nunavut

_ZIP_CODE = re.compile(r"([0-9]{4,5})(?:[ -]?[0-9]{4})?")
_CANADIAN_CODE = re.compile(r"([A-Z])[0-9][A-Z][ -]?[0-9][A-Z][0-9]")
_REGION = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}")


@cache
def area_codes() -> Mapping[str, str]:
    """The region of each area code of the United States and Canada that lies in one: "212" to "US-NY"."""
    return {
        code: region
        for entry in _AREA_CODES.split(";")
        for region, *codes in [entry.split()]
        for code in codes
    }  # fmt: skip


@cache
def _zip_prefixes() -> Mapping[str, str]:
    found: dict[str, str] = {}
    for entry in _ZIP.split(";"):
        prefixes, state = entry.split()
        first, _, last = prefixes.partition("-")
        found |= {f"{prefix:03}": f"US-{state}" for prefix in range(int(first), int(last or first) + 1)}
    return found


@cache
def _named() -> Mapping[str, str]:
    pairs = [entry.split(maxsplit=1) for entry in _NAMES.split(";")]
    return {" ".join(name.split()).casefold(): region for region, name in pairs}


def region_of(text: str, country: str | None) -> Place | None:
    """The region that `text` names, for somebody in `country` (ISO 3166): "FL", "US-FL" and "Florida" alike.

    Zones are known for the regions of the United States and Canada; another ISO 3166-2 code ("DE-BY") is taken as it
    is, with no zones. None: it is no region that is known.
    """
    value = " ".join(text.split())
    code = value.upper()
    if _REGION.fullmatch(code):
        if code in _ZONES or code[:2] not in ("US", "CA"):
            return Place(code, _ZONES.get(code, ()))
        return None
    # Of the two, no state and no province share a code or a name.
    candidates = [f"{country}-{code}", f"US-{code}", f"CA-{code}"] if country in ("US", "CA") else []
    found = next((each for each in candidates if each in _ZONES), None)
    if found is None and country in ("US", "CA"):
        found = _named().get(value.casefold())
    return None if found is None else Place(found, _ZONES[found])


def place_of_postal_code(text: str, country: str | None) -> Place | None:
    """Where the postal code `text` is, for somebody in `country`; None when that is not known."""
    value = text.strip().upper()
    region = None
    if country == "US" and (zip_code := _ZIP_CODE.fullmatch(value)):
        region = _zip_prefixes().get(zip_code[1].zfill(5)[:3])  # spreadsheets lose the zero at its beginning
    elif country == "CA" and (canadian := _CANADIAN_CODE.fullmatch(value)):
        province = _CANADA_POST.get(canadian[1])
        region = None if province is None else f"CA-{province}"
    return None if region is None else Place(region, _ZONES[region])
