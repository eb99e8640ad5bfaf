// The hash of a sequence of whole numbers: sums of powers, then the finalizer of MurmurHash3, in 64 bits.

const u64 = (number) => BigInt.asUintN(64, number);
const BASE = 0x9e3779b97f4a7c15n;

function finalize(h) {
  h = u64((h ^ (h >> 33n)) * 0xff51afd7ed558ccdn);
  h = u64((h ^ (h >> 33n)) * 0xc4ceb9fe1a85ec53n);
  return h ^ (h >> 33n);
}

/** The hash of whole numbers, as an unsigned BigInt. */
export function hash(numbers) {
  let [sum, power] = [0n, 1n];
  for (const number of numbers) {
    sum = u64(sum + BigInt(number + 1) * power);
    power = u64(power * BASE);
  }
  return finalize(sum);
}

export const bucket = (hashed, buckets) => Number(hashed % BigInt(buckets));
