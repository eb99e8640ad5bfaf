// Shares, means and the like over items that occur `count` times each. Over nothing all are 0.

export const ratio = (numerator, denominator) => (denominator ? numerator / denominator : 0);
export const clip = (x, least, greatest) => Math.min(Math.max(x, least), greatest);
export const ln1 = (x) => Math.log1p(x);
export const slog = (x) => Math.sign(x) * Math.log1p(Math.abs(x));

/** The sum of `value` over the items, each as often as it occurs. */
export const sum = (items, value) => items.reduce((total, item) => total + item.count * value(item), 0);
export const size = (items) => sum(items, () => 1);
export const mean = (items, value) => ratio(sum(items, value), size(items));
export const share = (items, holds) => mean(items, (item) => (holds(item) ? 1 : 0));
export const least = (items, value) => (items.length ? Math.min(...items.map(value)) : 0);
export const most = (items, value) => Math.max(0, ...items.map(value));

export function deviation(items, value) {
  const middle = mean(items, value);
  return Math.sqrt(mean(items, (item) => (value(item) - middle) ** 2));
}

/** How often each key occurs: a map from keys to numbers. */
export function tally(items, key) {
  const counts = new Map();
  for (const item of items) counts.set(key(item), (counts.get(key(item)) ?? 0) + item.count);
  return counts;
}

/** The shares of a tally, the greatest first. */
export function shares(counts) {
  const total = [...counts.values()].reduce((a, b) => a + b, 0);
  return [...counts.values()].map((n) => n / total).sort((a, b) => b - a);
}

export const entropy = (parts) => Math.max(0, -parts.reduce((total, p) => total + p * Math.log(p), 0));

/** The least value that at least q of the items do not exceed. */
export function quantile(items, value, q) {
  const counts = [...tally(items, value)].sort(([a], [b]) => a - b);
  let reached = 0;
  const enough = q * size(items) - 1e-9;
  return counts.find(([, n]) => (reached += n) >= enough)?.[0] ?? 0;
}
