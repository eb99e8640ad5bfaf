// Patterns, wherever a feature is one: of headers and of cells.

import { regex } from "./regex.mjs";
import { share } from "./statistics.mjs";

/** Every pattern by the name of its feature. */
export const patternsOf = ({ features, tables }) =>
  Object.fromEntries(features.filter((o) => o.pattern).map((o) => [o.name, regex(o.pattern, tables)]));

/** The features that say whether a pattern is found in a text. */
export function matches(spec, over, text) {
  const features = spec.features.filter((feature) => feature.over === over);
  return Object.fromEntries(features.map(({ name }) => [name, Number(spec.patterns[name].test(text))]));
}

/** The features that say in which share of the cells a pattern, or any pattern of a date or time, is found. */
export function patterns({ cells }, spec) {
  const names = spec.features.filter((feature) => feature.over === "cells").map(({ name }) => name);
  const moments = names.filter((name) => /^pattern_(iso_|date_|(time|season|month_name|day_name)$)/.test(name));
  const found = (some) => share(cells, ({ text }) => some.some((name) => spec.patterns[name].test(text)));
  return { pattern_date_any: found(moments), ...Object.fromEntries(names.map((name) => [name, found([name])])) };
}
