"""The Lua text that gives a unit its bucket inside Envoy, and the unit and salt that such a text was made for.

The text only *computes*: it puts the bucket (four digits) and the unit's pseudonym into two headers, and routes that
match the bucket decide. So the text of an experiment never changes while buckets move: here a move is one atomic
update of the routes, and where the text lies in the listener (Envoy Gateway's `EnvoyExtensionPolicy`,
`lua: [{type: Inline, inline: ...}]`, attached to the model's HTTPRoute) no listener is rebuilt and no connection
drained by it. Writing a header makes Envoy pick the route again by itself; `clearRouteCache` is not called, because
Envoy Gateway's checker does not know it. That checker also runs the text without LuaJIT's `bit`, hence the guard.

What a caller sends in the two headers is overwritten or removed before a request is routed for good. A header that is
sent twice is one unit, its values joined by commas, as Envoy joins them; an empty one is no unit: it would be the same
"user" for everybody who is not logged in.
"""

from __future__ import annotations

import re

from serving.release import buckets
from serving.release.traffic import BUCKETS, Unit

BUCKET_HEADER = "x-windlass-bucket"
UNIT_HEADER = "x-windlass-unit"

_PLAIN = re.compile(r"[A-Za-z0-9_ .:/-]")
_FIRST_LINE = re.compile(r'local KIND, NAME, SALT = "([^"\n]*)", "([^"\n]*)", "([^"\n]*)"\n')


def script(unit: Unit, salt: str) -> str:
    """The text for one experiment; constants (the salt's seeds too) are computed here or at load, never by request."""
    first, second = buckets.seeds(salt)
    kind, name, quoted = _quote(unit.kind), _quote(unit.name), _quote(salt)
    # the salt itself is for those who read the text back: the proxy needs only its seeds
    return (
        f'local KIND, NAME, SALT = "{kind}", "{name}", "{quoted}"\n'
        f"local FIRST, SECOND = {first}, {second}\n" + _BODY
    )


def assigned_by(text: str) -> tuple[Unit, str] | None:
    """Unit and salt of a `script`; None where `text` is anything else."""
    match = _FIRST_LINE.match(text)
    if match is None:
        return None
    kind, name, salt = (_unquote(group) for group in match.groups())
    unit = Unit("cookie" if kind == "cookie" else "header", name)
    return (unit, salt) if script(unit, salt) == text else None


def _quote(text: str) -> str:
    return "".join(
        c if _PLAIN.fullmatch(c) else "".join(f"\\{byte:03d}" for byte in c.encode()) for c in text
    )


def _unquote(text: str) -> str:
    plain = re.sub(rb"\\(\d{3})", lambda m: bytes((int(m[1]) & 255,)), text.encode())
    return plain.decode(errors="replace")


_BODY = (
    """\
local band, bxor, bor, tobit, tohex, lshift, rshift, rol
if bit then
  band, bxor, bor, tobit, tohex = bit.band, bit.bxor, bit.bor, bit.tobit, bit.tohex
  lshift, rshift, rol = bit.lshift, bit.rshift, bit.rol
end
local byte, format, gmatch, match = string.byte, string.format, string.gmatch, string.match

-- a times b modulo 2^32, in halves: a double holds 53 bits
local function times(a, b)
  return tobit(band(a, 65535) * b + rshift(a, 16) * b % 65536 * 65536)
end

local function mixed(k)
  return times(rol(times(k, 0xcc9e2d51), 15), 0x1b873593)
end

-- MurmurHash3, x86, 32 bits: a signed number
local function murmur3(text, seed)
  local h, length = tobit(seed), #text
  local whole = length - length % 4
  for at = 1, whole, 4 do
    local a, b, c, d = byte(text, at, at + 3)
    h = rol(bxor(h, mixed(bor(a, lshift(b, 8), lshift(c, 16), lshift(d, 24)))), 13)
    h = tobit(h * 5 + 0xe6546b64)
  end
  if whole < length then
    local a, b, c = byte(text, whole + 1, length)
    h = bxor(h, mixed(bor(a, lshift(b or 0, 8), lshift(c or 0, 16))))
  end
  h = bxor(h, length)
  h = times(bxor(h, rshift(h, 16)), 0x85ebca6b)
  h = times(bxor(h, rshift(h, 13)), 0xc2b2ae35)
  return bxor(h, rshift(h, 16))
end

local function cookie(text)
  for pair in gmatch(text, "[^;]+") do
    local name, value = match(pair, "^%s*([^=]-)%s*=%s*(.-)%s*$")
    if name == NAME then
      return match(value, '^"(.*)"$') or value
    end
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local unit
  if KIND == "header" then
    unit = headers:get(NAME)
  else
    local sent = headers:get("cookie")
    unit = sent and cookie(sent)
  end
  if not bit or not unit or unit == "" then
    headers:remove("@BUCKET@")
    headers:remove("@UNIT@")
    return
  end
  local hash = murmur3(unit, FIRST)
  headers:replace("@UNIT@", tohex(hash) .. tohex(murmur3(unit, SECOND)))
  headers:replace("@BUCKET@", format("%04d", hash % 4294967296 % @BUCKETS@))
end
""".replace("@BUCKET@", BUCKET_HEADER)
    .replace("@UNIT@", UNIT_HEADER)
    .replace("@BUCKETS@", str(BUCKETS))
)
