import assert from "node:assert/strict";
import test from "node:test";
import { parse } from "../src/parse.mjs";

test("units are added up", () => assert.equal(parse("1d 2h 3m 4s"), 93784));
test("what is no duration is refused", () => {
  for (const text of ["", "1", "1w", "h1"]) assert.throws(() => parse(text), TypeError);
});
