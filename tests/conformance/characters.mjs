// Which classes of characters the cells are made of.

import { mean, share } from "./statistics.mjs";
import { count, isLetter } from "./text.mjs";

/** `char_` and a class: how much of a cell is of the class. */
function amounts(cells, spec) {
  const names = new Set(spec.named("char_"));
  const kinds = spec.classNames.filter((kind) => names.has(`char_${kind}`));
  const amount = (kind) => mean(cells, ({ classes }) => count(classes, kind) / classes.length);
  return Object.fromEntries(kinds.map((kind) => [`char_${kind}`, amount(kind)]));
}

const having = (cells, ...kinds) => share(cells, ({ classes }) => count(classes, ...kinds) > 0);
const madeOf = (cells, isOne) => share(cells, ({ classes }) => classes.every(isOne));

const presence = (cells) => ({
  char_broken: having(cells, "control", "replacement"),
  char_any_digit: having(cells, "digit"),
  char_any_letter: share(cells, ({ classes }) => classes.some(isLetter)),
  char_any_space: having(cells, "space"),
  char_any_dot: having(cells, "dot"),
  char_any_hyphen: having(cells, "hyphen"),
  char_any_bracket: having(cells, "bracket"),
});

const purity = (cells) => ({
  char_alone_digit: madeOf(cells, (kind) => kind === "digit"),
  char_alone_upper: madeOf(cells, (kind) => kind === "upper"),
  char_alone_letter: madeOf(cells, (kind) => isLetter(kind) || kind === "mark"),
  char_mixed: share(cells, ({ classes }) => classes.includes("digit") && classes.some(isLetter)),
});

const ends = (cells) => ({
  char_starts_digit: share(cells, ({ classes }) => classes[0] === "digit"),
  char_starts_upper: share(cells, ({ classes }) => classes[0] === "upper"),
  char_ends_digit: share(cells, ({ classes }) => classes.at(-1) === "digit"),
  char_ends_letter: share(cells, ({ classes }) => isLetter(classes.at(-1))),
});

export const characters = ({ cells }, spec) => ({
  ...amounts(cells, spec),
  char_nonascii: mean(cells, ({ points }) => points.filter((point) => point > 0x7f).length / points.length),
  ...presence(cells),
  ...purity(cells),
  ...ends(cells),
});
