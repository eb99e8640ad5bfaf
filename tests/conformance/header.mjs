// The header: how it is written, which words it has, which trigrams.

import { bucket, hash } from "./hash.mjs";
import { matches } from "./patterns.mjs";
import { ln1, ratio } from "./statistics.mjs";
import { codePoints, count, isLetter, textOf } from "./text.mjs";

const KEPT = ["mark", "digit", "numeral", "percent"];
const BLANK = 0x20;

const isKept = (kind) => isLetter(kind) || KEPT.includes(kind);

/** Does a word begin at a character of this class, between these two? */
function begins(before, kind, after) {
  if (kind === "digit") return isLetter(before);
  return kind === "upper" && (before === "lower" || (before === "upper" && after === "lower"));
}

/** The header as words in lower case, one space between them. */
export function splitHeader(points, spec) {
  const kinds = points.map((point) => spec.classOf(point));
  const split = points.flatMap((point, i) => {
    if (!isKept(kinds[i])) return [BLANK];
    return [...(begins(kinds[i - 1], kinds[i], kinds[i + 1]) ? [BLANK] : []), ...spec.lower([point])];
  });
  return textOf(split).split(" ").filter(Boolean).join(" ");
}

/** For each bucket, the share of the trigrams that fall into it. */
function trigramShares(split, spec) {
  const names = spec.named("header_ngram_");
  const points = split ? codePoints(`^${split}$`) : [];
  const buckets = points.slice(2).map((_, i) => bucket(hash(points.slice(i, i + 3)), names.length));
  return Object.fromEntries(names.map((name, i) => [name, ratio(count(buckets, i), buckets.length)]));
}

function punctuation(kinds) {
  return kinds.filter((kind) => !isLetter(kind) && !["mark", "digit", "numeral", "space", "underscore"].includes(kind));
}

function written(points, kinds, spec) {
  const [uppers, lowers] = [count(kinds, "upper"), count(kinds, "lower")];
  return {
    header_length: ln1(points.length),
    header_empty: points.every((point) => spec.isWhiteSpace(point)),
    header_digit: kinds.includes("digit"),
    header_ends_digit: kinds.at(-1) === "digit",
    header_upper: uppers > 0 && lowers === 0,
    header_lower: lowers > 0 && uppers === 0,
    header_underscore: points.includes(0x5f),
    header_space: spec.trim(points).includes(BLANK),
    header_punctuation: punctuation(kinds).length > 0,
    header_nonascii: ratio(points.filter((point) => point > 0x7f).length, points.length),
    header_single: points.length === 1,
  };
}

export function header({ header: points }, spec) {
  const split = splitHeader(points, spec);
  return {
    ...written(points, points.map((point) => spec.classOf(point)), spec),
    ...matches(spec, "header", textOf(points)),
    ...matches(spec, "split header", split),
    ...trigramShares(split, spec),
    header_words: ln1(split.split(" ").filter(Boolean).length),
  };
}
