const SECONDS = { d: 86400, h: 3600, m: 60, s: 1 };

/** Seconds of `1h 30m`; throws on anything else. */
export function parse(text) {
  const parts = text.trim().split(/\s+/);
  return parts.reduce((sum, part) => {
    const found = /^(\d+)([dhms])$/.exec(part);
    if (!found) throw new TypeError(`no duration: ${JSON.stringify(part)}`);
    return sum + Number(found[1]) * SECONDS[found[2]];
  }, 0);
}
