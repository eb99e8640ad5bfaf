// Texts as sequences of code points.

export const codePoints = (text) => Array.from(text, (character) => character.codePointAt(0));

/** The text of any number of code points. */
export const textOf = (points) => points.map((point) => String.fromCodePoint(point)).join("");

/** Is the text less than the other by code points? JavaScript's `<` would compare UTF-16 units. */
export const isLess = (text, other) => Buffer.compare(Buffer.from(text), Buffer.from(other)) < 0;

/** Is there a range [first, last] that holds the code point? */
export const within = (ranges, point) => ranges.some(([first, last]) => first <= point && point <= last);

const LETTERS = new Set(["upper", "lower", "caseless", "unspaced"]);

export const isLetter = (kind) => LETTERS.has(kind);

/** How many of the items are equal to one of the wanted. */
export const count = (items, ...wanted) => items.filter((item) => wanted.includes(item)).length;
