//! The query: one script, one round trip, everything that there is to know about a release on a target.

use std::io::Read;

use crate::release::installed::{Evidence, InstalledRelease, Process, Snapshot};
use crate::release::lineage::Replaced;

use super::lock;
use super::script::{Script, TOOL};

const SCRIPT: &str = include_str!("probe.sh");
const EXPRESSION: &str = include_str!("snapshot.erl");
/// More than the snapshot of any node; what inflates beyond it is not one.
const LONGEST_SNAPSHOT: u64 = 64 << 20;

/// The script that asks about the release `name` in `directory`.
pub(crate) fn script(directory: &str, name: &str) -> Script {
    // the release's own script passes the expression through `echo`: one line, no quotes of the shell
    let expression = EXPRESSION.replace('\n', "");
    Script::new(SCRIPT)
        .using(lock::FUNCTIONS)
        .set("T", directory)
        .set("N", name)
        .using(TOOL)
        .set("E", &expression)
}

/// Reads what the script printed; `None` when it did not run to its end.
pub(crate) fn read(stdout: &str, directory: &str) -> Option<Evidence> {
    let (_, body) = stdout.split_once("slipway:begin\n")?;
    let (body, _) = body.split_once("slipway:end\n")?;
    let mut evidence = Evidence { directory: directory.to_owned(), ..Evidence::default() };
    let (mut releases, mut answer) = (String::new(), String::new());
    for line in body.lines() {
        let (key, value) = line.split_once('\t').unwrap_or((line, ""));
        match key {
            "user" => evidence.user = value.to_owned(),
            "tool" => _ = evidence.tools.insert(value.to_owned()),
            "writable" => evidence.writable = true,
            "free" => evidence.free = value.parse().ok(),
            "root" => evidence.root = Some(value.to_owned()).filter(|root| !root.is_empty()),
            "script" => evidence.script = Some(value.to_owned()),
            "start" => evidence.start = value.split_whitespace().nth(1).map(str::to_owned),
            "releases" => {
                releases.push_str(value);
                releases.push('\n');
            }
            "bad" => evidence.bad.extend(pair(value)),
            "replaced" => evidence.replaced.extend(pair(value).map(replaced)),
            "unfinished" => evidence.unfinished = true,
            "left" => _ = evidence.left.insert(value.to_owned()),
            "busy" => evidence.busy = true,
            "versioned" => evidence.versioned = true,
            "entry" => _ = evidence.entries.insert(value.to_owned()),
            "proc" => evidence.sees_all = true,
            "process" => evidence.processes.extend(process(value)),
            "answer" => {
                answer.push_str(value);
                answer.push('\n');
            }
            _ => {}
        }
    }
    evidence.permanent = permanent(&releases);
    evidence.snapshot = snapshot(&answer);
    if evidence.snapshot.is_none() {
        evidence.silence = super::ssh::last_lines(&answer, 2).chars().take(300).collect();
    }
    Some(evidence)
}

fn process(value: &str) -> Option<Process> {
    let mut fields = value.split('\t');
    let mut next = || fields.next().unwrap_or_default().to_owned();
    let pid = next().parse().ok()?;
    // a package that was replaced below a running node
    let exe = next().trim_end_matches(" (deleted)").to_owned();
    Some(Process { pid, exe, root: next(), boot: next() })
}

/// The permanent version in the text of a `RELEASES` file.
fn permanent(releases: &str) -> Option<String> {
    let entry =
        r#"\{\s*release\s*,\s*"[^"]*"\s*,\s*"([^"]*)"\s*,\s*"[^"]*"\s*,\s*\[[^\]]*\]\s*,\s*permanent\s*\}"#;
    let pattern = regex::Regex::new(entry).expect("the pattern is constant");
    pattern.captures(releases).map(|found| found[1].to_owned())
}

/// The text in a node's answer: a string of Base64 around zlib.
pub(crate) fn decode(answer: &str) -> Option<String> {
    let bytes = base64(&printed(answer)?)?;
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(bytes.as_slice()).take(LONGEST_SNAPSHOT).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Reads the node's answer: a string of Base64 around zlib around lines of fields.
fn snapshot(answer: &str) -> Option<Snapshot> {
    let text = decode(answer)?;
    let mut snapshot = Snapshot::default();
    for line in text.lines() {
        let (key, value) = line.split_once('\t')?;
        match key {
            "root" => snapshot.root = value.to_owned(),
            "pid" => snapshot.pid = value.parse().ok()?,
            "node" => snapshot.node = value.to_owned(),
            "init" => snapshot.init = value.to_owned(),
            "erts" => snapshot.erts = value.to_owned(),
            "creation" => snapshot.boot.creation = value.to_owned(),
            "supervisor" => snapshot.boot.supervisor = value.to_owned(),
            "uptime" => snapshot.uptime = value.parse().ok()?,
            "memory" => snapshot.memory = value.parse().ok()?,
            "release" => {
                let mut fields = value.split('\t').map(str::to_owned);
                let (version, status) = (fields.next()?, fields.next()?);
                snapshot.releases.push(InstalledRelease { version, status, libraries: fields.collect() });
            }
            "way" => snapshot.ways.extend(pair(value)),
            "application" => snapshot.applications.extend(pair(value)),
            "module" => snapshot.modules.extend(pair(value)),
            _ => {}
        }
    }
    Some(snapshot).filter(|snapshot| snapshot.pid != 0)
}

fn pair(value: &str) -> Option<(String, String)> {
    value.split_once('\t').map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn replaced((version, was): (String, String)) -> (String, Replaced) {
    let (before, passing) = match was.strip_suffix(" passing") {
        Some(before) => (before, true),
        None => (was.as_str(), false),
    };
    (version, Replaced { version: before.to_owned(), passing })
}

/// The text of a string as Erlang's tools print it: quoted, or as a list of numbers when it is long.
fn printed(answer: &str) -> Option<String> {
    let answer = answer.trim();
    if let Some(numbers) = answer.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return numbers.split(',').map(|number| number.trim().parse::<u8>().ok().map(char::from)).collect();
    }
    let start = answer.find('"')?;
    let end = answer.rfind('"').filter(|end| *end > start)?;
    Some(answer[start + 1..end].to_owned())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = ALPHABET.iter().position(|letter| *letter == byte)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    fn encode(text: &str) -> String {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(text.as_bytes()).unwrap();
        let bytes = zlib.finish().unwrap();
        let mut encoded = String::new();
        for chunk in bytes.chunks(3) {
            let word =
                chunk.iter().fold(0usize, |word, byte| word << 8 | *byte as usize) << (8 * (3 - chunk.len()));
            for place in 0..4 {
                encoded.push(if place <= chunk.len() {
                    ALPHABET[word >> (18 - 6 * place) & 63] as char
                } else {
                    '='
                });
            }
        }
        encoded
    }

    const NODE: &str = "root\t/data/urf\npid\t7\nnode\turf@h\ninit\tstarted\nerts\t13.1.5\ncreation\t5\nsupervisor\t<0.5.0>\n\
        release\t0.2.0\tpermanent\turf-0.2.0\tsasl-4.2\nrelease\t0.1.0\told\turf-0.1.0\nway\t0.2.0\t0.1.0\napplication\turf\t0.2.0\nmodule\turf_store\tab\n";

    #[test]
    fn a_snapshot_is_read_quoted_or_as_numbers() {
        let encoded = encode(NODE);
        let numbers: Vec<String> = encoded.bytes().map(|byte| byte.to_string()).collect();
        for answer in [
            format!("\"{encoded}\"\n"),
            format!("[{}]", numbers.join(", ")),
            format!("{{ok, \"{encoded}\"}}"),
        ] {
            let snapshot = snapshot(&answer).unwrap();
            assert_eq!(snapshot.pid, 7);
            assert_eq!(snapshot.running(), Some("0.2.0"));
            assert!(snapshot.releases[0].libraries.contains("sasl-4.2"));
            assert_eq!(snapshot.ways, [("0.2.0".to_owned(), "0.1.0".to_owned())]);
            assert_eq!(snapshot.modules["urf_store"], "ab");
            assert_eq!(snapshot.boot.supervisor, "<0.5.0>");
        }
    }

    #[test]
    fn an_answer_that_is_no_snapshot_is_kept_as_what_was_said() {
        for answer in ["Node is not running!", "\"AAAA\"", "[1,2", "", "{error, \"*** eval: ...\"}"] {
            let text = format!("motd\nslipway:begin\nuser\ta\nanswer\t{answer}\nslipway:end\n");
            let evidence = read(&text, "/data/urf").unwrap();
            assert!(evidence.snapshot.is_none(), "{answer}");
            assert_eq!(evidence.silence, answer);
        }
    }

    /// What the script finds left in a directory.
    fn left_in(directory: &std::path::Path) -> Evidence {
        let directory = directory.to_str().unwrap();
        let text = script(directory, "urf").text();
        let output = std::process::Command::new("sh").args(["-c", &text]).output().unwrap();
        read(&String::from_utf8(output.stdout).unwrap(), directory).unwrap()
    }

    #[test]
    fn what_is_left_is_told_when_no_deployment_lives_there() {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("releases/urf-0.1.0.tar.gz", "");
        write("releases/urf-0.2.0.tar.gz", "");
        write("releases/urf-0.3.0.tar.gz.part", "");
        write("releases/other-0.2.0.tar.gz", "");
        write(".ci/run-1/pid", "999999999 1\n");
        write(".ci/switch/tree/a", "");
        write(".ci-lock/holder", "999999999 1\n");
        let found = left_in(directory.path());
        assert!(!found.unfinished && !found.busy);
        assert_eq!(
            found.litter("urf", "0.2.0"),
            [
                ".ci-lock",
                ".ci/run-1",
                ".ci/switch",
                "releases/urf-0.2.0.tar.gz",
                "releases/urf-0.3.0.tar.gz.part"
            ]
        );
        write(".ci/switch/parts", "new bin/urf\n");
        assert!(left_in(directory.path()).unfinished);
        // a deployment lives: this process
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let since = stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().to_owned();
        write(".ci-lock/holder", &format!("{} {since}\n", std::process::id()));
        assert_eq!(left_in(directory.path()).left.len(), 0);
    }

    #[test]
    fn a_query_without_its_last_line_is_no_evidence() {
        assert!(read("slipway:begin\nuser\ta\n", "/data/urf").is_none());
        assert!(read("bash: sh: command not found\n", "/data/urf").is_none());
    }

    #[test]
    fn files_and_processes_are_read() {
        let text = "slipway:begin\nroot\t/srv/urf\nscript\t0.1.0\nstart\t13.1.5 0.1.0\nwritable\tyes\nfree\t100\nproc\tall\n\
            releases\t%% coding: utf-8\nreleases\t[{release,\"urf\",\"0.2.0\",\"13.1.5\",\nreleases\t  [{urf,\"0.2.0\",\"lib/urf-0.2.0\"}],\nreleases\t  old},\n\
            releases\t {release,\"urf\",\"0.1.0\",\"13.1.5\",[],\nreleases\t permanent}].\n\n\
            process\t9\t/srv/urf/erts-1/bin/beam.smp (deleted)\t/srv/urf\t/srv/urf/releases/0.1.0/start\nslipway:end\n";
        let evidence = read(text, "/data/urf").unwrap();
        assert_eq!(evidence.permanent.as_deref(), Some("0.1.0"));
        assert_eq!(evidence.start.as_deref(), Some("0.1.0"));
        assert_eq!(evidence.free, Some(100));
        assert_eq!(evidence.nodes().len(), 1);
        assert!(evidence.writable && evidence.sees_all);
    }
}
