"""Quantities: `{{convert}}`, `{{cvt}}`, `{{val}}` and their kin.

The measure that an article gives is shown, in the words that a reader sees; the one converted to is left out, since its
rounding follows rules of its own.
"""

import re

from preprocess.clean.parameters import Parameters, superscript

# code|symbol|singular|plural; without the last two, the unit is always shown by its symbol
_UNITS = """
m|m|metre|metres km|km|kilometre|kilometres cm|cm|centimetre|centimetres mm|mm|millimetre|millimetres
um|μm|micrometre|micrometres nm|nm|nanometre|nanometres mi|mi|mile|miles ft|ft|foot|feet foot|ft|foot|feet
in|in|inch|inches yd|yd|yard|yards nmi|nmi|nautical_mile|nautical_miles ly|ly|light-year|light-years
pc|pc|parsec|parsecs au|au|astronomical_unit|astronomical_units fathom|fathom|fathom|fathoms
furlong|furlong|furlong|furlongs chain|chain|chain|chains m2|m²|square_metre|square_metres
km2|km²|square_kilometre|square_kilometres sqkm|km²|square_kilometre|square_kilometres
cm2|cm²|square_centimetre|square_centimetres sqm|m²|square_metre|square_metres
sqmi|sq_mi|square_mile|square_miles sqft|sq_ft|square_foot|square_feet sqin|sq_in|square_inch|square_inches
sqyd|sq_yd|square_yard|square_yards ha|ha|hectare|hectares acre|acre|acre|acres m3|m³|cubic_metre|cubic_metres
km3|km³|cubic_kilometre|cubic_kilometres cm3|cm³|cubic_centimetre|cubic_centimetres
cuft|cu_ft|cubic_foot|cubic_feet cuyd|cu_yd|cubic_yard|cubic_yards cumi|cu_mi|cubic_mile|cubic_miles
cuin|cu_in|cubic_inch|cubic_inches L|L|litre|litres l|L|litre|litres mL|mL|millilitre|millilitres
gal|gal|gallon|gallons USgal|US_gal|US_gallon|US_gallons impgal|imp_gal|imperial_gallon|imperial_gallons
USqt|US_qt|US_quart|US_quarts bbl|bbl|barrel|barrels oilbbl|bbl|barrel|barrels g|g|gram|grams
kg|kg|kilogram|kilograms mg|mg|milligram|milligrams lb|lb|pound|pounds lbs|lb|pound|pounds oz|oz|ounce|ounces
t|t|tonne|tonnes MT|t|metric_ton|metric_tons st|st|stone|stone LT|long_ton|long_ton|long_tons
ST|short_ton|short_ton|short_tons long_ton|long_ton|long_ton|long_tons short_ton|short_ton|short_ton|short_tons
tonne|t|tonne|tonnes km/h|km/h|kilometre_per_hour|kilometres_per_hour
kph|km/h|kilometre_per_hour|kilometres_per_hour mph|mph|mile_per_hour|miles_per_hour
m/s|m/s|metre_per_second|metres_per_second ft/s|ft/s|foot_per_second|feet_per_second
km/s|km/s|kilometre_per_second|kilometres_per_second kn|kn|knot|knots kt|kn|knot|knots
hp|hp|horsepower|horsepower bhp|bhp|brake_horsepower|brake_horsepower kW|kW|kilowatt|kilowatts
MW|MW|megawatt|megawatts W|W|watt|watts PS|PS|metric_horsepower|metric_horsepower J|J|joule|joules
kJ|kJ|kilojoule|kilojoules MJ|MJ|megajoule|megajoules cal|cal|calorie|calories
kcal|kcal|kilocalorie|kilocalories N|N|newton|newtons kN|kN|kilonewton|kilonewtons Pa|Pa|pascal|pascals
kPa|kPa|kilopascal|kilopascals MPa|MPa|megapascal|megapascals bar|bar|bar|bars
atm|atm|standard_atmosphere|standard_atmospheres psi|psi|pound_per_square_inch|pounds_per_square_inch
hPa|hPa|hectopascal|hectopascals mbar|mbar|millibar|millibars C|°C F|°F K|K|kelvin|kelvins °C|°C °F|°F
Hz|Hz|hertz|hertz MHz|MHz|megahertz|megahertz GHz|GHz|gigahertz|gigahertz Nm|N⋅m|newton_metre|newton_metres
/km2|/km²|per_square_kilometre|per_square_kilometre /sqkm|/km²|per_square_kilometre|per_square_kilometre
/sqmi|/sq_mi|per_square_mile|per_square_mile
PD/km2|inhabitants/km²|inhabitant_per_square_kilometre|inhabitants_per_square_kilometre
PD/sqmi|inhabitants/sq_mi|inhabitant_per_square_mile|inhabitants_per_square_mile
m3/s|m³/s|cubic_metre_per_second|cubic_metres_per_second
cuft/s|cu_ft/s|cubic_foot_per_second|cubic_feet_per_second
g/cm3|g/cm³|gram_per_cubic_centimetre|grams_per_cubic_centimetre
mpgus|mpg-US|mile_per_US_gallon|miles_per_US_gallon mpgUS|mpg-US|mile_per_US_gallon|miles_per_US_gallon
mpgimp|mpg-imp|mile_per_imperial_gallon|miles_per_imperial_gallon
L/100km|L/100_km|litre_per_100_kilometres|litres_per_100_kilometres
L/100_km|L/100_km|litre_per_100_kilometres|litres_per_100_kilometres lbf|lbf|pound-force|pounds-force
lbft|lb⋅ft|pound-foot|pound-feet lb.ft|lb⋅ft|pound-foot|pound-feet lb-ft|lb⋅ft|pound-foot|pound-feet
ftlbf|ft⋅lbf|foot-pound_force|foot-pounds_force ft.lbf|ft⋅lbf|foot-pound_force|foot-pounds_force
kg/m3|kg/m³|kilogram_per_cubic_metre|kilograms_per_cubic_metre day|d|day|days hour|h|hour|hours
"""
UNITS = {
    code.replace("_", " "): tuple(name.replace("_", " ") for name in names)
    for code, *names in (entry.split("|") for entry in _UNITS.split())
}
_COMPOUND = {
    ("ft", "in"),
    ("yd", "ft"),
    ("mi", "yd"),
    ("mi", "ft"),
    ("lb", "oz"),
    ("st", "lb"),
    ("lbs", "oz"),
    ("m", "cm"),
}
_RANGES = {
    **dict.fromkeys(("-", "–", "&ndash;", "to(-)"), "–"),
    **dict.fromkeys(("x", "×", "by", "xx", "*"), " × "),
    **dict.fromkeys(("±", "+/-", "&plusmn;", "+-"), " ± "),
    **{word: f" {word} " for word in ("to", "and", "or", "through", "till", "a", "à", "bis", "y", "et")},
    "by": " by ",
    "and(-)": " and ",
    "to about": " to about ",
    ",": ", ",
    ", and": ", and ",
    ", or": ", or ",
    "+": " + ",
}
_NUMBER = re.compile(r"[-−+]?(?=,*\.?\d)[\d,]*+(?:\.\d+)?+(?:e[-−+]?\d+)?", re.I)
_SCALE = re.compile(r"e(3|6|9|12)(?=[^\d])")  # before a unit: e6km
_SCALES = {"3": "thousand", "6": "million", "9": "billion", "12": "trillion"}
_SCIENTIFIC = re.compile(r"([-−+]?[\d.,]+)e([-−+]?\d+)", re.I)
_PLAIN = re.compile(r"([-−+]?)(\d{4,})((?:\.\d+)?)")


def grouped(number: str) -> str:
    """A number with its thousands apart and a minus sign, as the templates show it; other text as it is."""
    plain = _PLAIN.fullmatch(number)
    if plain:
        number = f"{plain[1]}{int(plain[2][:4000]):,}{plain[3]}"
    return "−" + number[1:] if number[:1] == "-" else number


def _unit(code: str, value: str, p: Parameters, short: bool) -> str:
    """The unit behind a value, with the space before it."""
    scale = _SCALE.match(code)
    code = code[scale.end() :] if scale else code
    symbol, *names = UNITS.get(code, (code,))
    if short or not names:
        text = f"×10{superscript(scale[1])} {symbol}" if scale else symbol
    elif p["adj"] in ("on", "mid", "pre"):
        return f"-{_SCALES[scale[1]]}-{_spelled(names[0], p)}" if scale else f"-{_spelled(names[0], p)}"
    elif scale:
        text = f"{_SCALES[scale[1]]} {_spelled(names[1], p)}"
    else:
        text = _spelled(names[0] if value in ("1", "-1", "−1") or "/" in value[:3] else names[1], p)
    return text if text[:1] in ("/", "%", "×") else f" {text}"


def _spelled(name: str, p: Parameters) -> str:
    american = p["sp"].lower() == "us"
    return name.replace("metre", "meter").replace("litre", "liter") if american else name


def convert(p: Parameters) -> str:
    """`{{convert|5|to|10|km|mi}}` as "5 to 10 kilometres"."""
    return _convert(p, short=p["abbr"] in ("on", "in", "values", "~") or p["disp"] == "table")


def convert_short(p: Parameters) -> str:
    """`{{cvt|5|km|mi}}` as "5 km"."""
    return _convert(p, short=p["abbr"] not in ("off", "out"))


def _convert(p: Parameters, short: bool) -> str:
    parts = p.positional or [""]
    value, at = parts[0], 1  # an index, since a page may have a hundred thousand parameters
    shown = [grouped(value.replace("+", " ", 1) if "/" in value else value)]
    while at + 1 < len(parts) and parts[at].lower() in _RANGES:
        value = parts[at + 1]
        shown += [_RANGES[parts[at].lower()], grouped(value)]
        at += 2
    if at == len(parts) or not parts[at] or p["abbr"] == "values":
        return "".join(shown)
    unit = parts[at]
    shown.append(_unit(unit, value, p, short))
    while at + 2 < len(parts) and (unit, parts[at + 2]) in _COMPOUND and _NUMBER.fullmatch(parts[at + 1]):
        value, unit = parts[at + 1], parts[at + 2]
        shown += [" ", value, _unit(unit, value, p, short)]
        at += 2
    return "".join(shown)


def with_unit(p: Parameters) -> str:
    """`{{unité|98|km|2}}` (French and kin): a value and units with exponents, as "98 km²"."""
    text = p[1]
    for unit, exponent in zip(p.positional[1::2], [*p.positional[2::2], ""], strict=False):
        text += f" {unit}{superscript(exponent)}" if unit else ""
    return text


def val(p: Parameters) -> str:
    """`{{val|1.5|0.3|e=5|u=km}}` as "(1.5±0.3)×10⁵ km"."""
    value, exponent = p[1], p["e"]
    scientific = _SCIENTIFIC.fullmatch(value)
    if scientific:
        value, exponent = scientific[1], scientific[2].lstrip("+")
    number = grouped(value) if p["fmt"] == "commas" else value.replace("-", "−", 1) if value.startswith("-") else value
    if p[3]:
        number += f"+{p[2].lstrip('+')}−{p[3].lstrip('-−')}"
    elif p[2]:
        number += f"±{p[2]}"
    if exponent:
        number = f"({number})" if p[2] else number
        number += f"×10{superscript(exponent)}"
    unit = p["u"] or p["ul"]
    if p["up"] or p["upl"]:
        unit += f"/{p['up'] or p['upl']}"
    symbol = UNITS.get(unit, (unit,))[0]
    between = "" if symbol[:1] in ("%", "°", "/", "") and symbol != "°C" else " "
    return f"{p['p']}{number}{p['s']}{between}{symbol}"
