import assert from "node:assert/strict";
import test from "node:test";
import { format } from "../src/format.mjs";
import { parse } from "../src/parse.mjs";

test("zero has a unit", () => assert.equal(format(0), "0s"));
test("what is formatted can be parsed", () => {
  for (const seconds of [1, 59, 60, 5400, 93784]) assert.equal(parse(format(seconds)), seconds);
});
