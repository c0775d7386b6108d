"""Chat templates that write today's date write a fixed one, so that what is asked does not depend on the day."""

from __future__ import annotations

import json
from datetime import date, datetime

TEMPLATE_DATE = "2024-07-26"
"""What such a template writes unless it is told: the day that Llama 3's own falls back to."""

_CODES = "aAbBcdDeFGgHhIjmMnpPrRsStTuUVwWxXyYZz"
_UNPADDED = "dHIjmMSy"  # also as "%-d", as the GNU C library writes them without their zeros


def check_date(day: str) -> str:
    """The date, if it is one.

    Raises:
        ValueError: It is not written as YYYY-MM-DD.
    """
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError as error:
        raise ValueError(
            f"template_date must be written as YYYY-MM-DD, such as {TEMPLATE_DATE}, got {day!r}."
        ) from error


def reads_date(template: str | None) -> bool:
    """Whether a chat template writes the day: transformers gives it by one function, `strftime_now`.

    >>> reads_date("{{ strftime_now('%d %b %Y') }}"), reads_date("{{ messages }}"), reads_date(None)
    (True, False, False)
    """
    return template is not None and "strftime_now" in template


def with_date(template: str, day: str) -> str:
    """A chat template in which `strftime_now` is midnight of this day; one that does not call it is unchanged.

    The function is defined anew in front, as a macro: transformers lets no caller pass one.
    """
    if not reads_date(template):
        return template
    moment = datetime.fromisoformat(check_date(day))
    said = {f"%{code}": moment.strftime(f"%{code}") for code in _CODES}
    said |= {f"%-{code}": said[f"%{code}"].lstrip("0") or "0" for code in _UNPADDED}
    percent = "\x00"  # "%%d" is a percent sign and a d
    pairs = [("%%", percent), *said.items(), (percent, "%")]
    filters = "".join(f" | replace({json.dumps(code)}, {json.dumps(text)})" for code, text in pairs)
    # The newline is the macro's: transformers' environment drops the first one behind a block.
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}\n{template}"
