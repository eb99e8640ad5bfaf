// Shapes: cells written as runs of equal symbols.

import { bucket, hash } from "./hash.mjs";
import { deviation, entropy, ln1, mean, most, ratio, share, shares, tally } from "./statistics.mjs";

const RUNS = 16;

/** The runs of a cell: each symbol's code point, and how many characters it stands for. */
function runsOf({ points, classes }, symbols) {
  const runs = [];
  points.forEach((point, i) => {
    const listed = symbols[classes[i]];
    const symbol = listed?.codePointAt(0) ?? point;
    const last = runs.at(-1);
    if (listed && last?.listed === listed) last.length += 1;
    else runs.push({ symbol, listed, length: 1 });
  });
  return runs;
}

/** A distinct cell's number of runs, its shape hash and its exact shape hash. */
function shapeOf(cell, symbols) {
  const all = runsOf(cell, symbols);
  const runs = all.slice(0, RUNS);
  const exact = runs.map(({ symbol, length }) => symbol * 256 + Math.min(length, 255));
  return { count: cell.count, runs: all.length, shape: hash(runs.map(({ symbol }) => symbol)), exact: hash(exact) };
}

function variety(cells) {
  const parts = shares(tally(cells, ({ shape }) => shape >> 16n));
  const exact = shares(tally(cells, (cell) => cell.exact >> 16n));
  return {
    shape_kinds: ratio(parts.length, cells.length),
    shape_kinds_log: ln1(parts.length),
    shape_top_share: parts[0] ?? 0,
    shape_second_share: parts[1] ?? 0,
    shape_entropy: entropy(parts),
    shape_exact_kinds: ratio(exact.length, cells.length),
    shape_exact_top_share: exact[0] ?? 0,
    shape_exact_entropy: entropy(exact),
  };
}

const between = (cells, first, last) => share(cells, ({ runs }) => first <= runs && runs <= last);

const amounts = (cells) => ({
  shape_runs_mean: ln1(mean(cells, ({ runs }) => runs)),
  shape_runs_std: ln1(deviation(cells, ({ runs }) => runs)),
  shape_runs_max: ln1(most(cells, ({ runs }) => runs)),
  shape_one_run: between(cells, 1, 1),
  shape_two_runs: between(cells, 2, 2),
  shape_three_runs: between(cells, 3, 3),
  shape_to_6_runs: between(cells, 4, 6),
  shape_over_12_runs: between(cells, 13, Infinity),
});

/** For each bucket, the share of the cells whose shape falls into it. */
function buckets(cells, spec) {
  const names = spec.named("shape_bucket_");
  const filled = (i) => share(cells, ({ shape }) => bucket(shape, names.length) === i);
  return Object.fromEntries(names.map((name, i) => [name, filled(i)]));
}

export function shapes({ cells }, spec) {
  const all = cells.map((cell) => shapeOf(cell, spec.parameters.run_symbols));
  return { ...variety(all), ...amounts(all), ...buckets(all, spec) };
}
