// Cells that read as numbers.

import { regex } from "./regex.mjs";
import { clip, deviation, least, ln1, mean, most, ratio, share, size, slog, tally } from "./statistics.mjs";
import { count } from "./text.mjs";

const HUGE = 1e300;
const TINY = 1e-300;
const DIGITS = [1, 2, 3, 4, 5, 6, 7, 8, 9];

const isOneOf = (names, text, spec) => names.some((name) => spec.patterns[name].test(text));

/** `\1` is `$1` in JavaScript. */
function replacementOf(text) {
  if (!/^(?:\\[1-9])*[^\\$]*$/.test(text)) throw new Error(`not in the dialect: the replacement ${text}`);
  return text.replace(/\\/g, "$$");
}

/** The replacements that leave the digits and the point of a decorated number. */
export const replacementsOf = ({ parameters, tables }) =>
  parameters.number_replacements.map(([pattern, text]) => [regex(pattern, tables, "g"), replacementOf(text)]);

function readDecorated(text, spec) {
  const digits = spec.replacements.reduce((rest, [pattern, replacement]) => rest.replace(pattern, replacement), text);
  if (!/^(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)$/.test(digits)) return null;
  return (spec.negative.test(text) ? -1 : 1) * Number(digits);
}

/** The number that a text reads as, and whether it is plain; null if it is none. */
export function readNumber(text, spec) {
  const { plain_patterns: plain, decorated_patterns: decorated } = spec.parameters;
  const isPlain = isOneOf(plain, text, spec);
  const value = isPlain ? Number(text) : isOneOf(decorated, text, spec) ? readDecorated(text, spec) : null;
  return value === null || Math.abs(value) >= HUGE ? null : { value, isPlain };
}

function decimalsOf({ text, classes }, isPlain) {
  if (!isPlain || count(classes, "upper", "lower") || !text.includes(".")) return 0;
  return Math.min(text.length - text.lastIndexOf(".") - 1, 15);
}

function numberCell(cell, spec) {
  const read = readNumber(cell.text, spec);
  if (!read) return [];
  const [decimals, isWhole] = [decimalsOf(cell, read.isPlain), Number.isInteger(read.value)];
  const digits = read.isPlain && isWhole && !decimals ? count(cell.classes, "digit") : 0;
  return [{ ...read, text: cell.text, count: cell.count, isWhole, decimals, digits }];
}

/** The number cells: distinct cells that read as numbers. */
export const numbersOf = (cells, spec) => cells.flatMap((cell) => numberCell(cell, spec));

const value = (number) => number.value;
const sorted = (numbers) => numbers.map(value).sort((a, b) => a - b);

/** The value at the q rank of the number cells; 0 without any. */
const rank = (numbers, q) => sorted(numbers)[Math.floor(q * (numbers.length - 1))] ?? 0;

/** Minimum, maximum, mean, standard deviation and skew, by way of numbers scaled to 0 to 1. */
export function moments(numbers) {
  const [min, max] = [rank(numbers, 0), rank(numbers, 1)];
  const span = max - min || 1;
  const scaled = (number) => (number.value - min) / span;
  const [mu, sigma] = [mean(numbers, scaled), deviation(numbers, scaled)];
  const middle = min + span * mu;
  const isNothing = Math.abs(middle) <= 1e-12 * Math.max(Math.abs(min), Math.abs(max));
  const skew = sigma ? clip((mu - (rank(numbers, 0.5) - min) / span) / sigma, -5, 5) : 0;
  return { min, max, mean: isNothing ? 0 : middle, std: span * sigma, skew };
}

function spread(numbers) {
  const { min, max, mean: middle, std, skew } = moments(numbers);
  return {
    number_mean: slog(middle),
    number_std: slog(std),
    number_min: slog(min),
    number_max: slog(max),
    number_q25: slog(rank(numbers, 0.25)),
    number_q50: slog(rank(numbers, 0.5)),
    number_q75: slog(rank(numbers, 0.75)),
    number_skew: skew,
    number_range_log: ln1(max - min),
  };
}

function kinds(numbers, cells) {
  return {
    number_share: ratio(size(numbers), size(cells)),
    number_plain_share: ratio(size(numbers.filter((o) => o.isPlain)), size(cells)),
    number_integer_share: share(numbers, (o) => o.isWhole),
    number_negative_share: share(numbers, (o) => o.value < 0),
    number_zero_share: share(numbers, (o) => o.value === 0),
  };
}

/** How whole numbers fill the span from minimum to maximum; nothing of it holds if one is not whole. */
function counting(numbers, distinct) {
  const [min, max] = [rank(numbers, 0), rank(numbers, 1)];
  const [span, allWhole] = [max - min + 1, numbers.every((o) => o.isWhole)];
  return {
    number_density: allWhole ? Math.min(numbers.length / span, 1) : 0,
    number_contiguous: allWhole && distinct >= 3 && Math.abs(distinct - span) <= 0.1 * span,
    number_from_zero_one: numbers.length > 0 && allWhole && (min === 0 || min === 1),
    number_unit_interval: allWhole ? 0 : share(numbers, ({ value: x }) => 0 <= x && x <= 1),
  };
}

const isWithin = (first, last) => ({ value: x, isWhole }) => isWhole && first <= x && x <= last;
const isEpoch = (o) => isWithin(631152000, 2208988800)(o) || isWithin(631152000000, 2208988800000)(o);
const isAngle = (over, upTo) => ({ value: x, decimals }) => over < Math.abs(x) && Math.abs(x) <= upTo && decimals >= 3;

const ranges = (numbers) => ({
  number_zero_or_one: share(numbers, isWithin(0, 1)),
  number_to_5: share(numbers, isWithin(1, 5)),
  number_to_10: share(numbers, isWithin(0, 10)),
  number_to_100: share(numbers, ({ value: x }) => 0 <= x && x <= 100),
  number_month_like: share(numbers, isWithin(1, 12)),
  number_day_like: share(numbers, isWithin(1, 31)),
  number_hour_like: share(numbers, isWithin(0, 24)),
  number_year_like: share(numbers, isWithin(1500, 2100)),
  number_recent_year: share(numbers, isWithin(1950, 2035)),
  number_epoch_like: share(numbers, isEpoch),
  number_serial_date: share(numbers, isWithin(25000, 60000)),
  number_latitude_like: share(numbers, isAngle(-1, 90)),
  number_longitude_like: share(numbers, isAngle(90, 180)),
  number_big_share: share(numbers, ({ value: x, isWhole }) => isWhole && Math.abs(x) >= 1000000),
  number_round_share: share(numbers.filter((o) => o.isWhole && o.value !== 0), ({ value: x }) => x % 10 === 0),
});

function isFixed(numbers, digits, atLeast) {
  return least(numbers, digits) === most(numbers, digits) && least(numbers, digits) >= atLeast;
}

const writing = (numbers) => ({
  number_decimals_mean: mean(numbers, (o) => o.decimals),
  number_decimals_max: most(numbers, (o) => o.decimals),
  number_decimals_fixed: isFixed(numbers, (o) => o.decimals, 1),
  number_digits_fixed: isFixed(numbers, (o) => o.digits, 3),
});

/** How each number follows the one before it, in row order. */
function following(numbers, sampled) {
  const values = new Map(numbers.map((o) => [o.text, o.value]));
  const inOrder = sampled.filter((text) => values.has(text)).map((text) => values.get(text));
  const steps = inOrder.slice(1).map((second, i) => [inOrder[i], second]);
  const part = (holds) => ratio(steps.filter(holds).length, steps.length);
  return {
    number_ascending: part(([first, second]) => second > first),
    number_descending: part(([first, second]) => second < first),
    number_step_one: part(([first, second]) => second - first === 1),
  };
}

function firstDigit(x) {
  const exponent = Math.floor(Math.log10(Math.abs(x)));
  const digit = Math.floor(Math.abs(x) / Number(`1e${exponent}`) + 1e-9);
  return DIGITS.includes(digit) ? digit : 1;
}

/** Half the distance of the first digits from Benford's law. */
function benford(numbers) {
  const having = numbers.filter((o) => Math.abs(o.value) > TINY);
  const found = tally(having, (o) => firstDigit(o.value));
  const distance = (d) => Math.abs((found.get(d) ?? 0) / size(having) - Math.log10(1 + 1 / d));
  return having.length ? DIGITS.reduce((total, d) => total + distance(d), 0) / 2 : 0;
}

/** The share of gaps between neighbouring values that equal the least. */
function spacing(numbers) {
  const values = sorted(numbers);
  const gaps = values.slice(1).map((x, i) => x - values[i]).filter((gap) => gap > 0);
  const limit = Math.min(...gaps) * (1 + 1e-9);
  return ratio(gaps.filter((gap) => gap <= limit).length, gaps.length);
}

export function numbers({ cells, sampled, profile }, spec) {
  const found = numbersOf(cells, spec);
  return {
    ...kinds(found, cells),
    ...spread(found),
    ...counting(found, profile.distinct),
    ...ranges(found),
    ...writing(found),
    ...following(found, sampled),
    number_benford: benford(found),
    number_spacing: spacing(found),
  };
}
