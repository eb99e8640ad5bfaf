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

/** The features that say in which share of the cells a pattern is found. */
export function patterns({ cells }, spec) {
  const features = spec.features.filter((feature) => feature.over === "cells");
  const found = (name) => share(cells, ({ text }) => spec.patterns[name].test(text));
  return Object.fromEntries(features.map(({ name }) => [name, found(name)]));
}
