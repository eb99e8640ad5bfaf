// The profile: facts about all rows, and how the sampled cells repeat and follow each other.

import { moments, numbersOf } from "./numbers.mjs";
import { entropy, ln1, ratio, shares, size, slog, tally } from "./statistics.mjs";
import { isLess } from "./text.mjs";

const HUGE = 1e300;
const TINY = 1e-300;

function facts({ rows, missing, distinct }) {
  const present = Math.max(rows - missing, 0);
  return {
    profile_missing_share: missing / Math.max(rows, 1),
    profile_distinct_share: Math.min(distinct / Math.max(present, 1), 1),
    profile_distinct_log: ln1(distinct),
    profile_constant: distinct === 1,
    profile_two_valued: distinct === 2,
    profile_few_valued: distinct >= 3 && distinct <= 20,
    profile_unique: distinct >= present && present >= 3,
  };
}

function repetitions(cells) {
  const parts = shares(tally(cells, ({ text }) => text));
  return {
    profile_sample_distinct: ratio(cells.length, size(cells)),
    profile_sample_distinct_log: ln1(cells.length),
    profile_top_share: parts[0] ?? 0,
    profile_second_share: parts[1] ?? 0,
    profile_third_share: parts[2] ?? 0,
    profile_entropy: entropy(parts),
    profile_evenness: entropy(parts) / Math.log(Math.max(cells.length, 2)),
    profile_singleton_share: ratio(cells.filter((cell) => cell.count === 1).length, cells.length),
  };
}

function order(sampled) {
  const neighbours = sampled.slice(1).map((second, i) => [sampled[i], second]);
  const unequal = neighbours.filter(([first, second]) => first !== second);
  const ascending = unequal.filter(([first, second]) => isLess(first, second));
  return {
    profile_run_share: ratio(neighbours.length - unequal.length, neighbours.length),
    profile_sorted_share: ratio(ascending.length, unequal.length),
  };
}

/** The moments that the profile states, those that it does not from the numbers. */
function statedMoments(profile, numbers) {
  const own = moments(numbers);
  const [mean, std] = [profile.mean ?? own.mean, profile.std ?? own.std];
  return {
    profile_mean: slog(mean),
    profile_std: slog(std),
    profile_min: slog(profile.min ?? own.min),
    profile_max: slog(profile.max ?? own.max),
    profile_variation: slog(Math.abs(mean) <= TINY ? 0 : Math.min(std / Math.abs(mean), HUGE)),
  };
}

export function profile({ profile: stated, cells, sampled, placeholders }, spec) {
  return {
    ...facts(stated),
    profile_empty: cells.length === 0,
    profile_placeholder_share: ratio(placeholders, sampled.length),
    ...repetitions(cells),
    ...order(sampled),
    ...statedMoments(stated, numbersOf(cells, spec)),
  };
}
