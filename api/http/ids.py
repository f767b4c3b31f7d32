"""Ids of users and tracks in calls: whole numbers or text, by the kinds of the served release.

The values of parameters are texts. In a release with whole numbers only plain decimal digits are
accepted, and in one with text ids the text is the id, exactly as it was sent: "7" and "007" are two
users. In JSON a whole number is a number and a text id is a string, both ways.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from api.schemas import IntegerId
from jobs.contract.ids import INTEGER, LONGEST, flaw_of
from jobs.contract.journal import Id
from jobs.contract.names import MAX_ID
from jobs.contract.text_ids import Kinds

EXPECTED = {
    INTEGER: f"a whole number from 0 to {MAX_ID}",
    "text": f"text of 1 to {LONGEST} bytes in UTF-8 without control characters",
}
EXPECTED_LIST = {
    INTEGER: f"track ids, whole numbers from 0 to {MAX_ID}",
    "text": f"track ids, texts of 1 to {LONGEST} bytes in UTF-8 without control characters",
}
MANY = {  # of ids in a body
    INTEGER: f"whole numbers from 0 to {MAX_ID}",
    "text": f"texts of 1 to {LONGEST} bytes without control characters",
}
TYPES = {INTEGER: "int", "text": "str"}  # as msgspec's messages name them
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]{0,15})", re.ASCII)


class BadParameter(Exception):
    """A parameter that can't be used; the text says which, what was expected, what was found."""


class BadBody(Exception):
    """A body that can't be used; the text says where, what was expected and what was found."""


def parsed(text: str, kind: str) -> Id | None:
    """Return the id that a parameter has; None if it is no id of this kind.

    >>> parsed("7", "integer"), parsed("007", "integer"), parsed("007", "text"), parsed("", "text")
    (7, None, '007', None)
    """
    if kind != INTEGER:
        return text if flaw_of(text) is None else None
    if not _PLAIN.fullmatch(text):
        return None
    number = int(text)
    return number if 0 <= number <= MAX_ID else None


def id_of(name: str, text: str, kind: str) -> Id:
    """Return the id that a parameter has. BadParameter if it is no id of this kind."""
    found = parsed(text, kind)
    if found is None:
        raise BadParameter(f"{name}: expected {EXPECTED[kind]}, found {text[:40]!r}")
    return found


def event_of(user_id: str, item_id: str, kinds: Kinds) -> tuple[Id, Id]:
    """Return the user and the track of an event. BadParameter names each that is no id."""
    user, track = parsed(user_id, kinds.users), parsed(item_id, kinds.tracks)
    if user is None or track is None:
        sent = (("user_id", user_id, user, kinds.users), ("item_id", item_id, track, kinds.tracks))
        raise BadParameter(
            "; ".join(
                f"{name}: expected {EXPECTED[kind]}, found {text[:40]!r}"
                for name, text, found, kind in sent
                if found is None
            )
        )
    return user, track


def ids_of(name: str, texts: Sequence[str], kind: str, most: int) -> list[Id]:
    """Return the ids that a repeatable parameter has, at most so many. Errors as `id_of`."""
    if len(texts) > most:
        raise BadParameter(f"{name}: expected at most {most}, found {len(texts)}")
    found = []
    for text in texts:
        one = parsed(text, kind)
        if one is None:
            raise BadParameter(f"{name}: expected {EXPECTED_LIST[kind]}, found {text[:40]!r}")
        found.append(one)
    return found


def ids_of_body(name: str, ids: Sequence[Id], kind: str, lax: bool = False) -> list[Id]:
    """Return the ids of a list in a body. BadBody if one is of another kind, or is no id.

    With `lax`, whole numbers may be strings, as in the bodies of batches.
    """
    wanted = int if kind == INTEGER else str
    for place, found in enumerate(ids):
        if type(found) is not wanted:
            if lax and wanted is int:
                continue
            raise BadBody(f"{name}[{place}]: {_wrong_type(kind, found)}")
        if wanted is str and (flaw := flaw_of(str(found))):
            raise BadBody(f"{name}[{place}]: the text {flaw}")
    if not lax or wanted is str:
        return [*ids]
    try:
        return [*msgspec.convert(ids, list[IntegerId], strict=False)]
    except msgspec.ValidationError as error:
        reason, _, at = str(error).partition(" - at `$")
        raise BadBody(f"{name}{at.removesuffix('`')}: {reason}") from None


def _wrong_type(kind: str, found: Id) -> str:
    return f"Expected `{TYPES[kind]}`, got `{type(found).__name__}`"


def undecodable(query: bytes) -> str | None:
    """Return the first parameter whose value is not UTF-8 in percent-encoding; None if all are.

    Such a value would be read with other characters in it, and two ids might become one.
    """
    if b"%" not in query and query.isascii():
        return None
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        try:
            unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            return name[:40].decode("ascii", "replace")
    return None


def described(schema: Any, users: str, tracks: str, name: str = "") -> Any:
    """Return a part of the OpenAPI description for ids of these kinds.

    `name` is that of the property or parameter that a part is about. Where it has an id, of either
    kind, the one that the release has stays.
    """
    if isinstance(schema, list):
        return [described(part, users, tracks, name) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if {"in", "name", "schema"} <= schema.keys():
        return _parameter(schema, users if schema["name"] == "user_id" else tracks)
    kind = users if name in ("user_id", "user_ids") else tracks
    own = name and _has_ids(schema)  # examples that were made up may be of the other kind
    if _is_id(schema):
        other = "string" if kind == INTEGER else "integer"
        left = [choice for choice in schema["oneOf"] if choice.get("type") != other]
        rest = {key: value for key, value in schema.items() if key != "oneOf"}
        schema = {**left[0], **rest} if len(left) == 1 else {**rest, "oneOf": left}
    result = {}
    for key, value in schema.items():
        if key == "properties":
            result[key] = {n: described(part, users, tracks, n) for n, part in value.items()}
        elif key == "examples" and own:
            result[key] = value if kind == INTEGER else _as_text(value)
        elif key in ("items", "oneOf") and own:
            result[key] = _without_examples(described(value, users, tracks, name))
        else:
            result[key] = described(value, users, tracks, name)
    if "examples" in result and any(map(_has_ids, schema.get("properties", {}).values())):
        del result["examples"]
    return result


def _is_id(schema: dict[str, Any]) -> bool:
    """Return whether a schema is that of an id: of a whole number or of text."""
    choices = schema.get("oneOf")
    types = {choice.get("type") for choice in choices} if isinstance(choices, list) else set()
    return {"integer", "string"} <= types


def _has_ids(schema: dict[str, Any]) -> bool:
    """Return whether a schema is that of an id, or of lists of ids."""
    parts = [schema.get("items"), *schema.get("oneOf", [])]
    return _is_id(schema) or any(part and _has_ids(part) for part in parts)


def _without_examples(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_examples(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {k: _without_examples(part) for k, part in schema.items() if k != "examples"}


ID_PARAMETERS = ("user_id", "item_id")
LIST_PARAMETERS = ("events", "ids")


def _parameter(parameter: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the description of a parameter for ids of this kind."""
    value = (
        {"type": "integer", "minimum": 0, "maximum": MAX_ID}
        if kind == INTEGER
        else {"type": "string", "minLength": 1, "maxLength": LONGEST}
    )
    schema = parameter["schema"]
    if parameter["name"] in ID_PARAMETERS:
        kept = {key: schema[key] for key in ("description",) if key in schema}
        return {**parameter, "schema": kept | value}
    if parameter["name"] in LIST_PARAMETERS:
        examples = schema["examples"] if kind == INTEGER else _as_text(schema["examples"])
        return {**parameter, "schema": {**schema, "items": value, "examples": examples}}
    return parameter


def _as_text(value: Any) -> Any:
    return [_as_text(one) for one in value] if isinstance(value, list) else str(value)
