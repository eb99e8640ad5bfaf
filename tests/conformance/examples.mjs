// The worked examples inside the specification.

import { position } from "./column.mjs";
import { bucket, hash } from "./hash.mjs";
import { splitHeader } from "./header.mjs";
import { readNumber } from "./numbers.mjs";
import { codePoints } from "./text.mjs";
import { bytesText, floatText } from "./values.mjs";

function hashes(examples) {
  return examples.map((o) => {
    const h = hash(o.items);
    const got = [h.toString(16).padStart(16, "0"), bucket(h, 24), bucket(h, 48), Number(h >> 52n)];
    return [`hash of ${o.items}`, [o.hash, o.bucket_24, o.bucket_48, o.top_12_bits], got];
  });
}

function samplings(examples, size) {
  return examples.map(({ present, first, last }) => {
    const at = (i) => position(i, present, size);
    return [`sample of ${present}`, [first, last], [[0, 1, 2].map(at), [3, 2, 1].map((i) => at(size - i))]];
  });
}

function headers(examples, spec) {
  const check = ([text, split]) => [`header ${text}`, split, splitHeader(codePoints(text), spec)];
  return Object.entries(examples).map(check);
}

function readings(examples, spec) {
  const check = ([text, number]) => [`number ${text}`, number, readNumber(text, spec)?.value ?? null];
  return Object.entries(examples).map(check);
}

function texts({ floats, bytes }) {
  const decode = (hex) => bytesText(Buffer.from(hex, "hex"));
  return [
    ...floats.map(([x, text]) => [`float ${x}`, text, floatText(x)]),
    ...Object.entries(bytes).map(([hex, text]) => [`bytes ${hex}`, text, decode(hex)]),
  ];
}

const differs = ([, expected, got]) => JSON.stringify(expected) !== JSON.stringify(got);

function line([name, expected, got]) {
  return `example, ${name}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(got)}`;
}

/** What the specification's examples say and this program does not: one line each. */
export function checkExamples(spec) {
  const { hash: hashed, sampling, split_header: split, numbers, text } = spec.examples;
  const checks = [
    ...hashes(hashed),
    ...samplings(sampling, spec.parameters.sample_cells),
    ...headers(split, spec),
    ...readings(numbers, spec),
    ...texts(text),
  ];
  return checks.filter(differs).map(line);
}
