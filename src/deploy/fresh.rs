//! A fresh install: unpack, start, ask until it answers.

use std::time::Duration;

use crate::release::installed::Installed;

use super::apply::{Apply, Care, state_in_words};
use super::error::Error;
use super::target::Survey;

const UNPACK_LIMIT: Duration = Duration::from_secs(600);

/// Unpacks beside the release and moves the parts into place: a full disk then leaves what was there alone,
/// and no file of an earlier attempt survives below a new name.
const UNPACK: &str = r#"
D=$T/.ci/tree-$ID
trap 'rm -rf "$D"; rmdir "$T/.ci" 2>/dev/null' EXIT
rm -rf "$D" && mkdir -p "$D" || exit 1
tar -xzf "$T/releases/$N-$V.tar.gz" -C "$D" || exit 1
[ -x "$D/bin/$N" ] && [ -d "$D/releases/$V" ] || { echo "the package holds no bin/$N or no releases/$V" >&2; exit 1; }
mkdir -p "$T/bin" "$T/lib" "$T/releases" || exit 1
for entry in "$D"/lib/* "$D"/releases/* "$D"/bin/* "$D"/*; do
    part=${entry#"$D"/}
    case $part in lib|releases|bin) continue ;; esac
    [ -e "$entry" ] || continue
    rm -rf "$T/$part" && mv "$entry" "$T/$part" || exit 1
done
rm -f "$T/releases/$N-$V.tar.gz"
"#;

impl Apply<'_> {
    /// Installs and starts the candidate where nothing of the release runs. `before` is a query made under
    /// the lock.
    ///
    /// # Errors
    /// Something runs there after all; the package does not arrive or unpack; the release does not start.
    pub async fn fresh(mut self, before: &Survey, care: &Care) -> Result<Survey, Error> {
        let _ = care;
        if !matches!(before.installed, Installed::Absent | Installed::Stopped { .. }) {
            return Err(Error::refused(format!(
                "expected that nothing runs, but {}",
                state_in_words(&before.installed)
            ))
            .help("deploy again without `OLD_VSN`, so that the target is asked first"));
        }
        self.upload(&before.evidence).await?;
        let unpack = self.target.script(UNPACK).set("V", &self.candidate.version);
        let what = format!("unpack into {}", self.target.directory());
        self.steps.take(what, self.target.demand(&unpack, "unpacking the package", UNPACK_LIMIT)).await?;
        let survey = self.started().await?;
        if survey.installed.running() == Some(self.candidate.version.as_str()) {
            return Ok(survey);
        }
        Err(Error::failed(format!(
            "`{}` was installed and started, but {}",
            self.candidate.version,
            state_in_words(&survey.installed)
        ))
        .help("look at the target with `ci release status`"))
    }

    async fn started(&mut self) -> Result<Survey, Error> {
        let began = std::time::Instant::now();
        let result = self.start().await;
        let took = began.elapsed();
        self.steps.record(
            format!("start `{}`, until it answers", self.candidate.version),
            took,
            result.is_ok(),
        );
        result
    }
}
