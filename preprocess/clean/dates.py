"""Dates and ages: `{{birth date}}`, `{{death date and age}}`, `{{as of}}`, `{{circa}}` and their kin.

An age is shown where it follows from the template; one that is counted up to the day of reading is left out.
"""

from collections.abc import Callable
from datetime import date

from preprocess.clean.parameters import Parameters

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_YES = ("y", "yes", "1", "true", "on")


def _month(text: str) -> str:
    """The name of a month given by its number or by its name; "" for anything else."""
    if text.isdecimal():
        return _MONTHS[int(text) - 1] if len(text) <= 2 and 1 <= int(text) <= 12 else ""
    return next((name for name in _MONTHS if len(text) >= 3 and name.lower().startswith(text.lower())), "")


def _shown(year: str, month: str, day: str, day_first: bool) -> str:
    """The date as far as it is known."""
    name = _month(month)
    if not name:
        return year
    if not day:
        return f"{name} {year}".rstrip()
    day = day.lstrip("0")
    if day_first:
        return f"{day} {name} {year}".rstrip()
    return f"{name} {day}, {year}" if year else f"{name} {day}"


def _day_first(p: Parameters) -> bool:
    return p["df"] in _YES or p["format"] == "dmy"


def _parts(text: str) -> tuple[str, str, str]:
    """Year, month and day of an ISO date; any other text as a year."""
    parts = text.split("-")
    if len(parts) == 3 and all(part.isdecimal() for part in parts):
        return parts[0], parts[1], parts[2]
    return text, "", ""


def simple(p: Parameters) -> str:
    """`{{birth date|1879|3|14|df=y}}` as "14 March 1879"; `{{start date|1969|7|20|20|17}}` begins with the time."""
    year, month, day, hour, minute, *_ = [*p.positional, *[""] * 5]
    if not month:
        return _shown(*_parts(year), _day_first(p))
    shown = _shown(year, month, day, _day_first(p))
    return f"{hour}:{minute.zfill(2)}, {shown}" if hour and minute else shown


def _date(parts: list[str]) -> date | None:
    try:
        year, month, day = (int(part) for part in parts)
        return date(year, month, day)
    except ValueError:  # not a day of the calendar: an article's mistake, or a year alone
        return None


def death_and_age(p: Parameters) -> str:
    """`{{death date and age|1955|4|18|1879|3|14}}` as "April 18, 1955 (aged 76)"."""
    end, begin = _date(p.positional[:3]), _date(p.positional[3:6])
    shown = _shown(p[1], p[2], p[3], _day_first(p))
    if end is None or begin is None:
        return shown
    return f"{shown} (aged {_years(begin, end)})"


def _years(begin: date, end: date) -> int:
    return end.year - begin.year - ((end.month, end.day) < (begin.month, begin.day))


def age(p: Parameters) -> str:
    """`{{age|1879|3|14|1955|4|18}}` as "76"; nothing where the age is today's."""
    begin, end = _date(p.positional[:3]), _date(p.positional[3:6])
    return str(_years(begin, end)) if begin and end else ""


def death_year_and_age(p: Parameters) -> str:
    """`{{death year and age|1955|1879}}` as "1955 (aged 75–76)"."""
    if p[1].isdecimal() and p[2].isdecimal() and len(p[1] + p[2]) <= 8:
        years = int(p[1]) - int(p[2])
        return f"{p[1]} (aged {years - 1}–{years})"
    return p[1]


def sortable(p: Parameters) -> str:
    """`{{dts|1969|July|20}}` and `{{dts|1969-07-20}}` as "July 20, 1969"."""
    return _shown(*_parts(p[1]), _day_first(p)) if not p[2] else simple(p)


def as_of(p: Parameters) -> str:
    """`{{as of|2010|6}}` as "As of June 2010"."""
    if p["alt"]:
        return p["alt"]
    lead = "Since" if p["since"] in _YES else "As of"
    if p["pre"]:
        lead += f" {p['pre']}"
    day_first = p["df"].lower() != "us"
    shown = _shown(p[1], p[2], p[3], day_first)
    lead = lead[0].lower() + lead[1:] if p["lc"] in _YES else lead
    return shown if p["bare"] in _YES else f"{lead} {shown}{p['post']}"


def _about(sign: str) -> Callable[[Parameters], str]:
    """`{{circa|1500|1510}}` as "c. 1500 – c. 1510"."""

    def render(p: Parameters) -> str:
        return " – ".join(f"{sign} {part}" for part in p.positional[:2] if part) or sign

    return render


TEMPLATES: dict[str, Callable[[Parameters], str]] = {
    **dict.fromkeys(("birth date", "birth-date", "birth date and age", "birth-date and age", "bda", "dob"), simple),
    **dict.fromkeys(("birth year and age", "birth year", "death date", "death-date", "death year"), simple),
    **dict.fromkeys(("start date", "start-date", "start date and age", "end date", "end-date"), simple),
    **dict.fromkeys(("film date", "release date", "launch date"), simple),
    **dict.fromkeys(("death date and age", "death-date and age", "dda"), death_and_age),
    "death year and age": death_year_and_age,
    "age": age,
    **dict.fromkeys(("dts", "date table sorting"), sortable),
    **dict.fromkeys(("as of", "asof"), as_of),
    **dict.fromkeys(("circa", "c.", "ca."), _about("c.")),
    **dict.fromkeys(("floruit", "fl.", "fl"), _about("fl.")),
    **dict.fromkeys(("reign", "r."), lambda p: "r. " + "–".join(part for part in p.positional[:2] if part)),
}
