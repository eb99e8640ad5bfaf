// RE2 patterns as JavaScript regular expressions. What the specification's dialect does not name is refused.

import { codePoints, within } from "./text.mjs";

const WORD = [[48, 57], [65, 90], [95, 95], [97, 122]];
const SPACE = [[9, 10], [12, 13], [32, 32]];
const TAB = [[9, 9]];
const ASCII_FOLDS = Array.from({ length: 26 }, (_, i) => [65 + i, 97 + i]);

// What one token may be: a code point or class by escape; in a class also any other character; outside also syntax.
const ITEM = String.raw`\\x\{[0-9A-Fa-f]+\}|\\p\{\w+\}|\\[stw]|\\[!-\/:-@\[-\x60{-~]`;
const CLASS_TOKEN = new RegExp(String.raw`${ITEM}|[^\\]`, "uy");
const TOKEN = new RegExp(String.raw`${ITEM}|\\b|\(\?:|\[\^?|\{\d+(?:,\d*)?\}|[^\\{}\]]`, "uy");

const REPETITION = /^(?:[?*+]|\{.+\})$/;
const SYNTAX = new Set(["(", "(?:", ")", "|", "^", "$", "\\b"]);

const foldGroups = (tables) => tables.case_folds.map(codePoints);
const hex = (point) => `\\u{${point.toString(16)}}`;

class Translator {
  constructor(pattern, tables) {
    const folded = pattern.startsWith("(?i)");
    [this.pattern, this.tables, this.at] = [pattern, tables, folded ? "(?i)".length : 0];
    this.groups = folded ? [...foldGroups(tables), ...ASCII_FOLDS] : [];
  }

  refuse() {
    throw new Error(`the dialect does not have this, at ${this.at}: ${this.pattern}`);
  }

  /** The token that begins here, of those that `token` knows. */
  next(token) {
    token.lastIndex = this.at;
    const [found] = token.exec(this.pattern) ?? this.refuse();
    this.at += found.length;
    return found;
  }

  translate() {
    let [result, repeatable] = ["", false];
    while (this.at < this.pattern.length) {
      const token = this.next(TOKEN);
      const repeats = REPETITION.test(token);
      if (repeats && !repeatable) this.refuse(); // which also meets lazy repetitions and every `(?` but `(?:`
      result += repeats || SYNTAX.has(token) ? token : this.atom(token);
      repeatable = token === ")" || !(repeats || SYNTAX.has(token));
    }
    return result;
  }

  /** What stands for one code point. */
  atom(token) {
    if (token === ".") return "[^\\n]";
    if (token.startsWith("[")) return this.characterClass(token);
    return this.written(this.ranges(token));
  }

  /** The class after its `[` or `[^`. A `]` at its begin, and a class within the class, are refused. */
  characterClass(open) {
    const ranges = [];
    for (let item = this.next(CLASS_TOKEN); item !== "]"; item = this.next(CLASS_TOKEN)) {
      if (item === "[" && this.pattern[this.at] === ":") this.refuse();
      ranges.push(...(this.isRange() ? this.range(item) : this.ranges(item)));
    }
    return ranges.length ? this.written(ranges, open) : this.refuse();
  }

  isRange() {
    return this.pattern[this.at] === "-" && this.pattern[this.at + 1] !== "]";
  }

  range(item) {
    this.at += 1;
    const [first, last] = [this.single(item), this.single(this.next(CLASS_TOKEN))];
    return first <= last ? [[first, last]] : this.refuse();
  }

  single(item) {
    return /^\\[psw]/.test(item) ? this.refuse() : this.ranges(item)[0][0];
  }

  /** The ranges of code points that an item of a class, or a literal, stands for. */
  ranges(item) {
    if (item === "\\w") return WORD;
    if (item === "\\s") return SPACE;
    if (item === "\\t") return TAB;
    if (item.startsWith("\\p")) return this.tables.regex_classes[item] ?? this.refuse();
    const point = item.startsWith("\\x{") ? parseInt(item.slice(3, -1), 16) : item.replace(/^\\/, "").codePointAt(0);
    return [[point, point]];
  }

  /** A class in JavaScript; with whatever folds to one of its members. */
  written(ranges, open = "[") {
    const folded = this.groups.filter((group) => group.some((point) => within(ranges, point)));
    const all = [...ranges, ...folded.flat().map((point) => [point, point])];
    return `${open}${all.map(([first, last]) => `${hex(first)}-${hex(last)}`).join("")}]`;
  }
}

/** The pattern as a regular expression; `flags` are added to "u". */
export function regex(pattern, tables, flags = "") {
  return new RegExp(new Translator(pattern, tables).translate(), `u${flags}`);
}
