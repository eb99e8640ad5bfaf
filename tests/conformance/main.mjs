// Compute the features of golden vectors from their raw input, and name every feature that differs.
//
//     node main.mjs feature_spec.json golden_vectors.jsonl

import { readFileSync } from "node:fs";

import { characters } from "./characters.mjs";
import { readColumn } from "./column.mjs";
import { checkExamples } from "./examples.mjs";
import { header } from "./header.mjs";
import { lengths } from "./lengths.mjs";
import { numbers } from "./numbers.mjs";
import { patterns } from "./patterns.mjs";
import { profile } from "./profile.mjs";
import { shapes } from "./shapes.mjs";
import { Spec } from "./spec.mjs";
import { words } from "./words.mjs";

const FAMILIES = { header, profile, lengths, characters, words, patterns, numbers, shapes };
const LARGEST = 3.4028234663852886e38;

/** The value as it stands in the vector: a float32. */
const output = (value) => Math.fround(Math.min(Math.max(Number(value), -LARGEST), LARGEST));

/** All features of a record, by name. */
function extract(record, spec) {
  const column = readColumn(record, spec);
  return Object.assign({}, ...Object.values(FAMILIES).map((family) => family(column, spec)));
}

/** One comparison a feature: what was expected, what came, and whether that is near enough. */
function compare(record, spec) {
  const got = extract(record, spec);
  return spec.features.map(({ index, name, family }) => {
    const [expected, value] = [record.features[index], output(got[name])];
    const { absolute, relative } = spec.tolerances[family];
    const difference = Math.abs(value - expected);
    const agrees = difference <= absolute + relative * Math.abs(expected); // never for NaN
    return { id: record.id, name, family, expected, value, difference, agrees };
  });
}

function familyLine(name, spec, compared) {
  const mine = compared.filter(({ family }) => family === name);
  const implemented = new Set(mine.filter(({ value }) => !Number.isNaN(value)).map((o) => o.name)).size;
  const largest = mine.reduce((most, { difference }) => Math.max(most, difference), 0);
  const columns = new Set(mine.map(({ id }) => id)).size;
  const features = `${implemented} of ${spec.family(name).length} features`;
  return `${name}: ${features}, ${columns} columns, largest difference ${largest.toExponential(1)}`;
}

/** For each feature that differs anywhere, the first column in which it does. */
function firstDifferences(different) {
  const first = new Map();
  for (const o of different) if (!first.has(o.name)) first.set(o.name, o);
  const short = (float32) => Number(float32.toPrecision(9));
  return [...first.values()].map((o) => `${o.id}: ${o.name}: expected ${o.expected}, got ${short(o.value)}`);
}

function report(spec, compared, faults) {
  for (const name of Object.keys(spec.tolerances)) console.log(familyLine(name, spec, compared));
  const different = compared.filter(({ agrees }) => !agrees);
  for (const line of [...faults, ...firstDifferences(different)]) console.log(line);
  const number = faults.length + different.length;
  console.log(number ? `differences: ${number}` : "all agree");
  return number ? 1 : 0;
}

function main([specPath, goldenPath]) {
  const spec = new Spec(JSON.parse(readFileSync(specPath, "utf8")));
  const records = readFileSync(goldenPath, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const faults = [...checkExamples(spec), ...(records.length ? [] : ["no golden vectors"])];
  return report(spec, records.flatMap((record) => compare(record, spec)), faults);
}

process.exitCode = main(process.argv.slice(2));
