// One file of all sources. What was built from the same sources before comes out of the cache.
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";

const { version } = JSON.parse(readFileSync("package.json", "utf8"));
const text = ["parse", "format"].map((name) => readFileSync(`src/${name}.mjs`, "utf8")).join("\n");
const bundle = `${text}\nexport const version = ${JSON.stringify(version)};\n`;
const cached = `.cache/${createHash("sha256").update(bundle).digest("hex")}.mjs`;

mkdirSync(".cache", { recursive: true });
mkdirSync("dist", { recursive: true });
const warm = existsSync(cached);
if (!warm) writeFileSync(cached, bundle);
copyFileSync(cached, "dist/duration.mjs");
console.log(warm ? "bundle: from the cache" : "bundle: made");
