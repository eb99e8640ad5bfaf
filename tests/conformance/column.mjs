// From raw input to what the families look at: the header, the sampled cells, the distinct cells, the profile.

import { tally } from "./statistics.mjs";
import { codePoints, textOf } from "./text.mjs";

const isMissing = (cell) => cell === null || cell === "";

/** Position number i of `picked` ones among n, in whole numbers; i * (n - 1) stays below 2**53. */
export function position(i, n, picked) {
  const product = i * (n - 1);
  return (product - (product % (picked - 1))) / (picked - 1);
}

/** Decimal digits of any script as 0 to 9. */
function asciiDigits(points, spec) {
  return points.map((point) => {
    const zero = spec.tables.digit_zeros.findLast((zero) => zero <= point);
    return point - zero < 10 ? 48 + point - zero : point;
  });
}

function sample(present, spec) {
  const { sample_cells: size, cell_characters: length } = spec.parameters;
  const whole = present.length <= size;
  const picked = whole ? present : Array.from({ length: size }, (_, i) => present[position(i, present.length, size)]);
  return picked.map((cell) => textOf(asciiDigits(codePoints(cell).slice(0, length), spec)));
}

function isPlaceholder(text, spec) {
  if (Buffer.byteLength(text) > 9) return false;
  const trimmed = textOf(spec.trim(codePoints(text)));
  return spec.placeholders.has(trimmed.replace(/[A-Z]/g, (letter) => letter.toLowerCase()));
}

/** A distinct cell: its text, how often it occurs, its code points and their classes. */
function distinctCell([text, count], spec) {
  const points = codePoints(text);
  return { text, count, points, classes: points.map((point) => spec.classOf(point)) };
}

function countedProfile(cells, present) {
  return { rows: cells.length, missing: cells.length - present.length, distinct: new Set(present).size };
}

/** All that a record's raw input says to the families. */
export function readColumn({ header, cells, profile }, spec) {
  const present = cells.filter((cell) => !isMissing(cell));
  const sampled = sample(present, spec).map((text) => ({ text, count: 1 }));
  const kept = sampled.filter(({ text }) => !isPlaceholder(text, spec));
  return {
    header: codePoints(header.replace(/\p{Surrogate}/gu, "?")).slice(0, spec.parameters.header_characters),
    sampled: sampled.map(({ text }) => text),
    placeholders: sampled.length - kept.length,
    cells: [...tally(kept, ({ text }) => text)].map((entry) => distinctCell(entry, spec)),
    profile: profile ?? countedProfile(cells, present),
  };
}
