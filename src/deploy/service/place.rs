//! The versioned directories of a release on a target.

use std::collections::BTreeMap;
use std::time::Duration;

use super::artifact::Artifact;
use crate::deploy::error::Error;
use crate::deploy::script::Script;
use crate::deploy::ssh::ANSWER_LIMIT;
use crate::deploy::target::Target;

const UPLOAD_LIMIT: Duration = Duration::from_secs(3600);
const UNPACK_LIMIT: Duration = Duration::from_secs(600);
/// Compressed programs unpack to some three times their size.
const SPACE_FACTOR: u64 = 4;

/// One process a line. A process belongs to a version when its program lies in that version's directory, or
/// when it was started by us and so has the mark in its environment.
const PROCESSES: &str = r#"
processes() {
    { ls -l /proc/[0-9]*/exe | sed -n 's|.*/proc/\([0-9]*\)/exe -> \(.*\)$|\1 \2|p'
      grep -az '^SLIPWAY_RELEASE=' /proc/[0-9]*/environ | tr '\0' '\n' | sed -n 's|^/proc/\([0-9]*\)/environ:SLIPWAY_RELEASE=\(.*\)$|\1 \2/|p'
    } 2>/dev/null | while read -r pid path; do
        case $path in "$R"/versions/*) ;; *) continue ;; esac
        # the port mapper is everybody's, whoever started it
        case $(readlink "/proc/$pid/exe") in */epmd|*/epmd\ *) continue ;; esac
        path=${path#"$R"/versions/}
        printf 'process\t%s\t%s\n' "$pid" "${path%%/*}"
    done
}
R=$(cd "$T" 2>/dev/null && pwd -P) || R=$T
"#;

const QUERY: &str = r#"
echo slipway:begin
place=$T
while [ ! -e "$place" ] && [ -n "$place" ]; do place=${place%/*}; done
[ -w "${place:-/}" ] && echo writable
printf 'free\t%s\n' "$(df -Pk "${place:-/}" 2>/dev/null | awk 'NR == 2 { print $4 }')"
for tool in tar gzip readlink awk sed grep; do command -v "$tool" >/dev/null 2>&1 || printf 'lacks\t%s\n' "$tool"; done
command -v sha256sum >/dev/null 2>&1 || command -v shasum >/dev/null 2>&1 || command -v openssl >/dev/null 2>&1 || printf 'lacks\tsha256sum\n'
if [ -L "$T/current" ]; then printf 'current\t%s\n' "$(readlink "$T/current")"
elif [ -e "$T/current" ]; then printf 'foreign\tcurrent\n'; fi
[ -d "$T/versions" ] || for entry in "$T"/*; do [ -e "$entry" ] && printf 'foreign\t%s\n' "${entry##*/}"; done
for entry in "$T"/versions/*; do
    [ -d "$entry" ] && printf 'version\t%s\t%s\n' "${entry##*/}" "$(cat "$T/.ci/digest/${entry##*/}" 2>/dev/null)"
done
[ -f "$T/.ci/served" ] && while IFS= read -r version; do printf 'served\t%s\n' "$version"; done <"$T/.ci/served"
printf 'real\t%s\n' "$R"
for entry in "$T"/.ci/bad/*; do [ -f "$entry" ] && printf 'bad\t%s\t%s\n' "${entry##*/}" "$(head -n 1 "$entry")"; done
processes
echo slipway:end
"#;

const ARRIVE: &str = r#"
if command -v sha256sum >/dev/null 2>&1; then sum=$(sha256sum <"$FILE")
elif command -v shasum >/dev/null 2>&1; then sum=$(shasum -a 256 <"$FILE")
else sum=$(openssl dgst -sha256 -r <"$FILE"); fi
[ "${sum%% *}" = "$SHA256" ] && exit
echo "it arrived with SHA-256 ${sum%% *}" >&2
rm -f "$FILE"
exit 9
"#;

/// Beside first, then one rename: a full disk or a lost connection leaves no half version.
const UNPACK: &str = r#"
mkdir -p "$T/versions" "$T/.ci/digest" || exit 1
for left in "$T"/versions/.new-*; do [ -e "$left" ] && rm -rf "$left"; done
new=$T/versions/.new-$ID
trap 'rm -rf "$new" "$FILE"' EXIT
mkdir "$new" && tar -xzf "$FILE" -C "$new" || exit 1
# a cookie may be changed there
sums() { command -v sha256sum >/dev/null 2>&1 && cd "$new" && find . -type f ! -name COOKIE -exec sha256sum {} +; }
mkdir -p "$T/.ci/sums" && (sums) >"$T/.ci/sums/$V"
[ "$(readlink "$T/current")" != "versions/$V" ] || [ ! -e "$T/versions/$V" ] || { echo "versions/$V is in use" >&2; exit 1; }
rm -rf "$T/versions/$V" && mv "$new" "$T/versions/$V" && printf '%s\n' "$TREE" >"$T/.ci/digest/$V"
"#;

const SWITCH: &str = r#"
if [ -z "$V" ]; then rm -f "$T/current"; exit; fi
rm -f "$T/.current-$ID"
ln -s "versions/$V" "$T/.current-$ID" && mv -T "$T/.current-$ID" "$T/current" && [ "$(readlink "$T/current")" = "versions/$V" ]
"#;

/// The latest first; each version once.
const SERVING: &str = r#"
mkdir -p "$T/.ci" || exit 1
{ printf '%s\n' "$V"; grep -vxF -e "$V" "$T/.ci/served" 2>/dev/null; } >"$T/.ci/served.part"
mv "$T/.ci/served.part" "$T/.ci/served"
"#;

/// `$GONE` has one version a line.
const PRUNE: &str = r#"
printf '%s\n' "$GONE" | while IFS= read -r version; do
    case $version in ''|.*|*/*) continue ;; esac
    [ "$(readlink "$T/current")" = "versions/$version" ] || rm -rf "$T/versions/$version" "$T/.ci/digest/$version" "$T/.ci/sums/$version"
done
"#;

const END: &str = r#"
find_pids() { processes | awk -F'\t' -v v="$V" '$3 == v { print $2 }'; }
tries=$PATIENCE
for signal in 0 TERM KILL; do
    pids=$(find_pids)
    [ -n "$pids" ] || exit 0
    if [ "$signal" != 0 ]; then kill -s "$signal" $pids 2>/dev/null; tries=10; fi
    while [ "$tries" -gt 0 ] && [ -n "$(find_pids)" ]; do sleep 1; tries=$((tries - 1)); done
done
[ -z "$(find_pids)" ]
"#;

/// What a query found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Version that `current` leads to.
    pub(crate) current: Option<String>,
    /// Unpacked versions, with the SHA-256 of what was in their packages.
    pub(crate) versions: BTreeMap<String, String>,
    /// Versions that were seen to serve, the last one first.
    pub(crate) served: Vec<String>,
    /// Processes of versions.
    pub(crate) processes: BTreeMap<u32, String>,
    /// What lies in the directory and is not ours.
    pub(crate) foreign: Vec<String>,
    /// Tools that are not there.
    pub(crate) lacks: Vec<String>,
    /// Versions that failed there, and why.
    pub(crate) bad: BTreeMap<String, String>,
    /// The directory without links.
    pub(crate) real: String,
    /// Whether the directory is there and can be written, or can be made.
    pub(crate) writable: bool,
    /// Free space in KiB.
    pub(crate) free: Option<u64>,
}

impl Place {
    /// Asks the target.
    pub(crate) async fn query(target: &Target) -> Result<Place, Error> {
        let output = target.session().run(&with_processes(target, QUERY), ANSWER_LIMIT).await?;
        read(&output.stdout).ok_or_else(|| {
            let said = output.tail();
            Error::failed(format!("the query did not run to its end on `{}`: {said}", target.destination()))
                .help("the target needs a POSIX shell, awk, sed, grep, readlink and /proc; try `ssh` to it by hand")
        })
    }

    /// A process of the version; the oldest by its number.
    pub(crate) fn process(&self, version: &str) -> Option<u32> {
        self.processes.iter().find(|(_, of)| *of == version).map(|(pid, _)| *pid)
    }

    /// What served when something began to replace it, and was interrupted.
    pub(super) fn left(&self) -> Option<&str> {
        let served = self.served.first().filter(|served| self.versions.contains_key(*served))?;
        self.current.as_ref().filter(|current| *current != served).map(|_| served.as_str())
    }

    /// Versions to remove so that `keep` stay beside the one that serves.
    pub(super) fn surplus(&self, serving: &str, previous: Option<&str>, keep: usize) -> Vec<String> {
        let idle = |version: &&String| {
            version.as_str() != serving
                && Some(version.as_str()) != previous
                && self.process(version).is_none()
        };
        let mut old: Vec<&String> = self.versions.keys().filter(idle).collect();
        old.sort_by(|a, b| crate::release::version::compare(a, b));
        let keep = keep.saturating_sub(usize::from(previous.is_some()));
        old.iter().take(old.len().saturating_sub(keep)).map(|version| (*version).clone()).collect()
    }
}

/// A script that has the function `processes`.
fn with_processes(target: &Target, body: &'static str) -> Script {
    target.script(body).using(PROCESSES)
}

fn read(stdout: &str) -> Option<Place> {
    let (_, body) = stdout.split_once("slipway:begin\n")?;
    let (body, _) = body.split_once("slipway:end\n")?;
    let mut place = Place::default();
    for line in body.lines() {
        let (key, value) = line.split_once('\t').unwrap_or((line, ""));
        match key {
            "writable" => place.writable = true,
            "free" => place.free = value.parse().ok(),
            "lacks" => place.lacks.push(value.to_owned()),
            "foreign" => place.foreign.push(value.to_owned()),
            "current" => match value.strip_prefix("versions/") {
                Some(version) => place.current = Some(version.to_owned()),
                None => place.foreign.push(format!("current -> {value}")),
            },
            "version" => {
                let (version, digest) = value.split_once('\t').unwrap_or((value, ""));
                place.versions.insert(version.to_owned(), digest.to_owned());
            }
            "served" => place.served.push(value.to_owned()),
            "bad" => {
                let (version, reason) = value.split_once('\t').unwrap_or((value, ""));
                place.bad.insert(version.to_owned(), reason.to_owned());
            }
            "real" => place.real = value.to_owned(),
            "process" => {
                if let Some((pid, version)) = value.split_once('\t')
                    && let Ok(pid) = pid.parse()
                {
                    place.processes.insert(pid, version.to_owned());
                }
            }
            _ => {}
        }
    }
    Some(place)
}

/// Sends the package and unpacks it beside the other versions.
pub(super) async fn install(target: &Target, artifact: &Artifact, place: &Place) -> Result<(), Error> {
    if place.free.is_some_and(|free| free.saturating_mul(1024) < artifact.size.saturating_mul(SPACE_FACTOR)) {
        let (free, size) = (place.free.unwrap_or(0), artifact.size / 1024);
        return Err(Error::refused(format!(
            "too little space on `{}`: {free} KiB free for a package of {size} KiB",
            target.destination()
        ))
        .help("remove old versions on the target or give it more disk"));
    }
    let file = format!("{}/.ci/package.part", target.directory());
    target
        .demand(&target.script(r#"mkdir -p "$T/.ci""#), "making room for the package", ANSWER_LIMIT)
        .await?;
    let sent = target.session().upload((&artifact.path, 0), &file, UPLOAD_LIMIT).await?;
    if sent.code != Some(0) {
        let said = sent.tail();
        return Err(Error::failed(format!(
            "sending the package to `{}` failed: {said}",
            target.destination()
        )));
    }
    let script = |body| {
        let script = target.script(body).set("FILE", &file).set("SHA256", &artifact.sha256);
        script.set("TREE", &artifact.tree).set("V", &artifact.version)
    };
    let what = format!("comparing the package's SHA-256 {}", artifact.sha256);
    target.demand(&script(ARRIVE), &what, ANSWER_LIMIT).await?;
    target.demand(&script(UNPACK), "unpacking the package", UNPACK_LIMIT).await.map(drop)
}

/// Makes `current` lead to `version`, by one rename; to nothing without one.
pub(super) async fn switch(target: &Target, version: Option<&str>) -> Result<(), Error> {
    let script = target.script(SWITCH).set("V", version.unwrap_or(""));
    target.demand(&script, "exchanging the link `current`", ANSWER_LIMIT).await.map(drop)
}

/// Notes that `version` was seen to serve.
pub(super) async fn serves(target: &Target, version: &str) -> Result<(), Error> {
    target
        .demand(&target.script(SERVING).set("V", version), "noting what serves", ANSWER_LIMIT)
        .await
        .map(drop)
}

/// Removes versions.
pub(super) async fn prune(target: &Target, gone: &[String]) -> Result<(), Error> {
    let script = target.script(PRUNE).set("GONE", &gone.join("\n"));
    target.demand(&script, "removing old versions", UNPACK_LIMIT).await.map(drop)
}

/// Waits until no process of `version` is left; after `patience` they get TERM, then KILL.
pub(super) async fn end(target: &Target, version: &str, patience: Duration) -> Result<(), Error> {
    let script =
        with_processes(target, END).set("V", version).set("PATIENCE", &patience.as_secs().to_string());
    let limit = patience + Duration::from_secs(60);
    target.demand(&script, &format!("ending the processes of `{version}`"), limit).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_a_cut_one_is_not() {
        let text = "motd\nslipway:begin\nwritable\nfree\t100\ncurrent\tversions/1.2.0\nversion\t1.1.0\tab\nversion\t1.2.0\t\n\
            served\t1.2.0\nreal\t/srv/a\nbad\t1.1.0\twhy\nprocess\t7\t1.2.0\nslipway:end\n";
        let place = read(text).unwrap();
        assert_eq!(place.current.as_deref(), Some("1.2.0"));
        assert_eq!(place.versions["1.1.0"], "ab");
        assert_eq!(place.process("1.2.0"), Some(7));
        assert!(place.bad["1.1.0"] == "why" && place.writable && place.foreign.is_empty());
        assert_eq!(read(text.trim_end_matches("end\n")), None);
        let elsewhere = read("slipway:begin\ncurrent\t/opt/x\nslipway:end\n").unwrap();
        assert_eq!((elsewhere.current, elsewhere.foreign), (None, vec!["current -> /opt/x".to_owned()]));
    }

    #[test]
    fn the_version_before_and_those_that_still_run_are_never_pruned() {
        let place = Place {
            versions: ["1.0.0", "1.9.0", "1.10.0", "1.11.0", "2.0.0"]
                .map(|v| (v.into(), String::new()))
                .into(),
            processes: [(9, "1.0.0".to_owned())].into(),
            ..Place::default()
        };
        assert_eq!(place.surplus("2.0.0", Some("1.11.0"), 2), ["1.9.0"]);
        assert_eq!(place.surplus("2.0.0", Some("1.11.0"), 0), ["1.9.0", "1.10.0"]);
        assert_eq!(place.surplus("2.0.0", None, 9), Vec::<String>::new());
    }
}
