// Stored values as text: what a cell is before it is a text.

const WHOLE = 2 ** 53;

/** A double as text; null for NaN, which is missing. JavaScript writes sizes from 1e-6 as decimal fractions itself. */
export function floatText(x) {
  if (Number.isNaN(x)) return null;
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "-inf";
  return Math.abs(x) < WHOLE ? String(x) : x.toExponential();
}

/** Bytes as text; Node's decoder replaces maximal subparts, as the specification asks. */
export const bytesText = (bytes) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
