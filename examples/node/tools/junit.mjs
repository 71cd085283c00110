// A JUnit report of `node --test`: Node 18 has no reporter for it yet.
const escape = (text) => text.replace(/[<>&"]/g, (c) => `&#${c.charCodeAt(0)};`);

export default async function* junit(events) {
  yield "<testsuite>\n";
  for await (const { type, data } of events) {
    // a file is a test as well, and holds those that are meant
    if ((type !== "test:pass" && type !== "test:fail") || data.name.endsWith(".mjs")) continue;
    const failure = type === "test:fail" ? `<failure>${escape(String(data.details.error))}</failure>` : "";
    yield `  <testcase name="${escape(data.name)}" time="${data.details.duration_ms / 1000}">${failure}</testcase>\n`;
  }
  yield "</testsuite>\n";
}
