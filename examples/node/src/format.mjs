const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];

/** `1h 30m` of 5400 seconds. */
export function format(seconds) {
  const parts = [];
  for (const [unit, length] of UNITS) {
    const count = Math.floor(seconds / length);
    if (count > 0) parts.push(`${count}${unit}`);
    seconds %= length;
  }
  return parts.join(" ") || "0s";
}
