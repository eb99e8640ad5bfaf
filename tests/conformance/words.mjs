// Words and sentences in the cells.

import { hash } from "./hash.mjs";
import { deviation, ln1, mean, most, quantile, ratio, share, size, sum, tally } from "./statistics.mjs";
import { count, textOf } from "./text.mjs";

const SPELLING = ["upper", "lower", "caseless", "mark"];
const IN_WORDS = new Set([...SPELLING, "digit", "numeral"]);
const BEFORE_END = ["lower", "caseless", "unspaced", "mark", "quote", "bracket"];
const AFTER_END = ["space", "newline", "quote", "bracket"];
const QUESTION_MARKS = [0x3f, 0xff1f, 0x61f];

/** The maximal runs of neighbours of the classes of words, as [begin, end] with the end left out. */
function runsOf(classes) {
  const holds = (i) => IN_WORDS.has(classes[i]);
  const places = [...classes.keys()].filter(holds);
  const ends = places.filter((i) => !holds(i + 1)).map((i) => i + 1);
  return places.filter((i) => !holds(i - 1)).map((begin, i) => [begin, ends[i]]);
}

/** A word by its place in a cell. */
function word({ points, classes }, [begin, end], spec) {
  const lower = spec.lower(points.slice(begin, end));
  const isDigits = ["digit", "numeral"].includes(classes[begin]);
  const isFunction = !isDigits && spec.functionWords.has(textOf(lower));
  return { length: end - begin, isDigits, isCapital: classes[begin] === "upper", isFunction, lower };
}

function wordsOf(cell, spec) {
  if (!count(cell.classes, ...SPELLING)) return [];
  return runsOf(cell.classes).map((run) => word(cell, run, spec));
}

/** Does a sentence end at character number i of the cell? */
function endsSentence({ points, classes }, i) {
  if (!["dot", "ending"].includes(classes[i]) || !BEFORE_END.includes(classes[i - 1])) return false;
  return i === points.length - 1 || points[i] > 0x7f || AFTER_END.includes(classes[i + 1]);
}

/** A cell with its words, letter words, spoken words and sentence ends. */
function spelled(cell, spec) {
  const words = wordsOf(cell, spec);
  const spoken = words.length + Math.floor(count(cell.classes, "unspaced") / 2);
  const ends = cell.points.flatMap((_, i) => (endsSentence(cell, i) ? [i] : []));
  return { ...cell, words, letters: words.filter(({ isDigits }) => !isDigits), spoken, ends };
}

const kind = ({ lower }) => hash(lower) >> 52n;
const between = (cells, first, last) => share(cells, ({ spoken }) => first <= spoken && spoken <= last);
const flat = (cells, words) => cells.flatMap((cell) => words(cell).map((o) => ({ ...o, count: cell.count })));

function amounts(cells) {
  const spoken = (cell) => cell.spoken;
  const shortened = (cell) => Math.min(cell.spoken, 63);
  return {
    word_mean: ln1(mean(cells, spoken)),
    word_std: ln1(deviation(cells, spoken)),
    word_max: ln1(most(cells, spoken)),
    word_q10: ln1(quantile(cells, shortened, 0.1)),
    word_q50: ln1(quantile(cells, shortened, 0.5)),
    word_q90: ln1(quantile(cells, shortened, 0.9)),
    word_none: between(cells, 0, 0),
    word_one: between(cells, 1, 1),
    word_two: between(cells, 2, 2),
    word_to_4: between(cells, 3, 4),
    word_to_7: between(cells, 5, 7),
    word_to_20: between(cells, 8, 20),
    word_over_20: between(cells, 21, Infinity),
  };
}

const isTitle = ({ letters }) => letters.length >= 2 && letters.every((o) => o.isCapital);
const isLower = ({ letters, words }) => letters.length > 0 && !words.some((o) => o.isCapital || o.isDigits);
const isFirstCapital = ({ letters }) => letters[0]?.isCapital && letters.some((o) => !o.isCapital);

function writing(cells) {
  const words = flat(cells, (cell) => cell.words);
  const letters = words.filter((o) => !o.isDigits);
  return {
    word_length: ln1(mean(words, (o) => o.length)),
    word_longest: ln1(mean(cells, (cell) => Math.max(0, ...cell.words.map((o) => o.length)))),
    word_capitalised: share(letters, (o) => o.isCapital),
    word_first_capital: share(cells, isFirstCapital),
    word_title: share(cells, isTitle),
    word_lower: share(cells, isLower),
    word_digits: share(words, (o) => o.isDigits),
  };
}

function vocabulary(cells) {
  const letters = flat(cells, (cell) => cell.letters);
  const first = flat(cells, (cell) => cell.letters.slice(0, 1));
  const functionWords = letters.filter((o) => o.isFunction);
  const kinds = tally(letters, kind);
  return {
    word_function: share(letters, (o) => o.isFunction),
    word_any_function: share(cells, (cell) => cell.letters.some((o) => o.isFunction)),
    word_function_kinds: ln1(tally(functionWords, (o) => textOf(o.lower)).size),
    word_types: ratio(kinds.size, size(letters)),
    word_top_type: ratio(Math.max(0, ...kinds.values()), size(letters)),
    word_first_types: ratio(tally(first, kind).size, size(first)),
  };
}

function sentences(cells) {
  return {
    word_sentences: ln1(mean(cells, ({ ends }) => ends.length)),
    word_any_sentence: share(cells, ({ ends, points }) => ends.some((i) => i < points.length - 1)),
    word_ends_sentence: share(cells, ({ classes }) => ["dot", "ending"].includes(classes.at(-1))),
    word_question: share(cells, ({ points }) => count(points, ...QUESTION_MARKS) > 0),
    word_commas: ratio(sum(cells, ({ classes }) => count(classes, "comma")), sum(cells, ({ spoken }) => spoken)),
    word_unspaced: share(cells, ({ classes }) => count(classes, "unspaced") > classes.length / 2),
  };
}

export function words({ cells }, spec) {
  const all = cells.map((cell) => spelled(cell, spec));
  return { ...amounts(all), ...writing(all), ...vocabulary(all), ...sentences(all) };
}
