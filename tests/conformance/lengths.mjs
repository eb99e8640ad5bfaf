// How long the cells are, in code points.

import { deviation, least, ln1, mean, most, quantile, share, shares, tally } from "./statistics.mjs";

const length = ({ points }) => points.length;
const shortened = (cell) => Math.min(length(cell), 255);

const spread = (cells) => ({
  length_mean: ln1(mean(cells, length)),
  length_std: ln1(deviation(cells, length)),
  length_variation: deviation(cells, length) / Math.max(mean(cells, length), 1),
  length_min: ln1(least(cells, length)),
  length_max: ln1(most(cells, length)),
  length_q10: ln1(quantile(cells, shortened, 0.1)),
  length_q50: ln1(quantile(cells, shortened, 0.5)),
  length_q90: ln1(quantile(cells, shortened, 0.9)),
});

/** The share of cells of a length from `first` to `last`. */
const between = (cells, first, last) => share(cells, (cell) => first <= length(cell) && length(cell) <= last);

export const lengths = ({ cells }) => ({
  ...spread(cells),
  length_fixed: cells.length > 0 && least(cells, length) === most(cells, length),
  length_mode_share: shares(tally(cells, shortened))[0] ?? 0,
  length_kinds: ln1(tally(cells, shortened).size),
  length_one: between(cells, 1, 1),
  length_two: between(cells, 2, 2),
  length_to_4: between(cells, 3, 4),
  length_to_8: between(cells, 5, 8),
  length_to_16: between(cells, 9, 16),
  length_to_64: between(cells, 17, 64),
  length_over_128: between(cells, 129, Infinity),
});
