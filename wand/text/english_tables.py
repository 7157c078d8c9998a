"""Words of English for what `wand.text.english` reads aloud: abbreviations, units, money, names of kings."""

from __future__ import annotations

# fmt: off
TITLES = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "prof": "professor", "gen": "general",
    "col": "colonel", "capt": "captain", "lt": "lieutenant", "sgt": "sergeant", "gov": "governor", "sen": "senator",
    "rep": "representative", "rev": "reverend", "hon": "honorable", "pres": "president", "st": "saint", "mt": "mount",
    "ft": "fort", "messrs": "messers",
}
# These may end a sentence. Their full stop stays if a capital letter or nothing follows.
WORDS = {
    "etc": "et cetera", "vs": "versus", "approx": "approximately", "dept": "department", "est": "established",
    "inc": "incorporated", "ltd": "limited", "co": "company", "corp": "corporation", "bros": "brothers", "jr": "junior",
    "sr": "senior", "ave": "avenue", "blvd": "boulevard", "rd": "road", "assn": "association", "govt": "government",
    "min": "minutes", "max": "maximum", "avg": "average",
}
BEFORE_NUMBERS = {
    "no": "number", "nos": "numbers", "fig": "figure", "figs": "figures", "vol": "volume", "vols": "volumes",
    "ch": "chapter", "chap": "chapter", "sec": "section", "eq": "equation", "p": "page", "pp": "pages",
    "art": "article",
}
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)
SHORT_MONTHS = {
    "jan": 0, "feb": 1, "mar": 2, "apr": 3, "jun": 5, "jul": 6, "aug": 7, "sep": 8, "sept": 8, "oct": 9, "nov": 10,
    "dec": 11,
}
DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Thurs": "Thursday",
    "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}
# Also words, which may end a sentence.
WORDS_LIKE_DAYS = ("Wed", "Sat", "Sun")
# Also words in small letters: they march, they may, they mar.
WORDS_LIKE_MONTHS = ("march", "may", "mar")
MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "", ""), "₹": ("rupee", "rupees", "paisa", "paise"),
    "¢": ("cent", "cents", "", ""),
}
SIZES = {"k": "thousand", "m": "million", "mn": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
UNITS = {
    "km": ("kilometer", "kilometers"), "m": ("meter", "meters"), "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"), "kg": ("kilogram", "kilograms"), "g": ("gram", "grams"),
    "mg": ("milligram", "milligrams"), "lb": ("pound", "pounds"), "lbs": ("pound", "pounds"), "oz": ("ounce", "ounces"),
    "ft": ("foot", "feet"), "mi": ("mile", "miles"), "yd": ("yard", "yards"),
    "mph": ("mile per hour", "miles per hour"),
    "km/h": ("kilometer per hour", "kilometers per hour"), "kph": ("kilometer per hour", "kilometers per hour"),
    "m/s": ("meter per second", "meters per second"), "ml": ("milliliter", "milliliters"), "L": ("liter", "liters"),
    "°C": ("degree Celsius", "degrees Celsius"), "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"), "%": ("percent", "percent"), "KB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"), "GB": ("gigabyte", "gigabytes"), "TB": ("terabyte", "terabytes"),
    "Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"), "W": ("watt", "watts"), "kW": ("kilowatt", "kilowatts"),
    "MW": ("megawatt", "megawatts"), "V": ("volt", "volts"), "ms": ("millisecond", "milliseconds"),
    "sec": ("second", "seconds"), "min": ("minute", "minutes"), "hr": ("hour", "hours"), "hrs": ("hour", "hours"),
    "km²": ("square kilometer", "square kilometers"), "m²": ("square meter", "square meters"),
    "m³": ("cubic meter", "cubic meters"), "cm²": ("square centimeter", "square centimeters"),
}
FRACTIONS = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5), "⅘": (4, 5),
    "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
}
SYMBOLS = {
    "&": " and ", "@": " at ", "+": " plus ", "=": " equals ", "×": " times ", "÷": " divided by ",
    "±": " plus or minus ",
    "≈": " approximately ", "≤": " less than or equal to ", "≥": " greater than or equal to ", "<": " less than ",
    ">": " greater than ", "²": " squared", "³": " cubed", "©": " ", "®": " ", "™": " ", "*": " ", "_": " ", "^": " ",
    "|": " ", "~": " about ", "№": " number ",
}
RULERS = (
    "Henry", "Louis", "Elizabeth", "Charles", "George", "Edward", "William", "James", "Philip", "Richard", "Catherine",
    "Nicholas", "Peter", "Alexander", "Frederick", "Napoleon", "Pope", "Pius", "Benedict", "Paul", "John", "Leo",
)
NUMBERED = ("Chapter", "Part", "Volume", "Act", "Scene", "Book", "War", "Section", "Phase", "Type", "Class", "Level",
             "Appendix", "Title", "Article", "Bowl")
# Words before a year, and words after a year that is the subject of its sentence.
BEFORE_YEARS = ("in", "since", "from", "until", "till", "by", "of", "year", "before", "after", "around", "circa",
                 "during", "to", "early", "late", "mid", "spring", "summer", "autumn", "fall", "winter")
AFTER_YEARS = ("was", "is", "had", "has", "saw", "and", "to", "brought", "will", "marked", "began", "ended")
# fmt: on
