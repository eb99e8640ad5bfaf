// The specification, with its tables made ready to look things up in.

import { replacementsOf } from "./numbers.mjs";
import { patternsOf } from "./patterns.mjs";
import { regex } from "./regex.mjs";
import { within } from "./text.mjs";

/** One byte a code point: the place of its class in `names`. */
function classTable(classes, names) {
  const table = new Uint8Array(0x30000).fill(names.indexOf("control"));
  for (const [name, ranges] of Object.entries(classes)) {
    for (const [first, last] of ranges) table.fill(names.indexOf(name), first, last + 1);
  }
  return table;
}

export class Spec {
  constructor(json) {
    Object.assign(this, json);
    this.classNames = [...Object.keys(this.tables.classes), "control"];
    this.classTable = classTable(this.tables.classes, this.classNames);
    this.lowerCase = new Map(this.tables.lower_case);
    this.placeholders = new Set(this.tables.placeholders);
    this.functionWords = new Set(this.tables.function_words);
    this.patterns = patternsOf(this);
    this.replacements = replacementsOf(this);
    this.negative = regex(this.parameters.number_negative, this.tables);
  }

  /** The features of a family, in order. */
  family(name) {
    return this.features.filter((feature) => feature.family === name);
  }

  /** The names of the features that begin with `stem`. */
  named(stem) {
    return this.features.map((feature) => feature.name).filter((name) => name.startsWith(stem));
  }

  classOf(point) {
    return this.classNames[this.classTable[point] ?? this.classNames.indexOf("control")];
  }

  lower(points) {
    return points.map((point) => this.lowerCase.get(point) ?? point);
  }

  isWhiteSpace(point) {
    return within(this.tables.white_space, point);
  }

  trim(points) {
    const kept = (point) => !this.isWhiteSpace(point);
    return points.slice(points.findIndex(kept), points.findLastIndex(kept) + 1);
  }
}
