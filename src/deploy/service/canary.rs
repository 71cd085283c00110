//! A canary: the new version is started at the other address of an nginx upstream, and gets its requests by and by.

use std::time::{Duration, Instant};

use super::choice::Running;
use super::place;
use super::program::{self, Command};
use super::weights;
use crate::deploy::apply::Care;
use crate::deploy::error::Error;
use crate::deploy::file::{Check, Health, Service};
use crate::deploy::health;
use crate::deploy::ssh::ANSWER_LIMIT;
use crate::deploy::steps::Steps;
use crate::deploy::target::Target;

const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Fewer requests say nothing about a rate.
const FEWEST: u64 = 5;

const READ: &str = r#"cat "$FILE""#;

/// What nginx does not take is put back before it was asked to read it.
const WRITE: &str = r#"
cp -p "$FILE" "$FILE.slipway" && printf '%s' "$TEXT" >"$FILE.slipway-new" || exit 1
mv "$FILE.slipway-new" "$FILE" || exit 1
if sh -c "$CHECK"; then sh -c "$RELOAD" && rm -f "$FILE.slipway" && exit 0; fi
mv "$FILE.slipway" "$FILE"
exit 1
"#;

const SIZE: &str = r#"wc -c <"$FILE" 2>/dev/null || echo 0"#;
const SINCE: &str = r#"tail -c "+$FROM" "$FILE" 2>/dev/null"#;

/// What a [`Service::Canary`] says.
pub(super) struct Canary<'a> {
    pub(super) service: &'a Service,
    pub(super) care: Care,
}

struct Upstream<'a> {
    file: &'a str,
    name: &'a str,
    backends: &'a [String; 2],
    start: &'a str,
    stop: Option<&'a str>,
    test: &'a str,
    reload: &'a str,
    log: Option<&'a str>,
}

impl Canary<'_> {
    fn upstream(&self) -> Result<Upstream<'_>, Error> {
        let Service::Canary { upstream, name, backends, start, stop, test, reload, log, .. } = self.service
        else {
            return Err(Error::refused("the service is no canary"));
        };
        let (stop, log) = (stop.as_deref(), log.as_deref());
        Ok(Upstream { file: upstream, name, backends, start, stop, test, reload, log })
    }

    /// Moves all requests from `old` to `new`; from nothing without `old`. On failure the upstream is as it was and
    /// the new version stopped.
    pub(super) async fn move_to(
        &self,
        target: &mut Target,
        steps: &mut Steps,
        old: Option<&str>,
        new: &str,
    ) -> Result<Running, Error> {
        let upstream = self.upstream()?;
        let text = upstream.read(target).await?;
        let active = weights::active(&text, upstream.name, upstream.backends);
        let [a, b] = upstream.backends;
        let (from, to) = if active == Some(a) { (a, b) } else { (b, a) };
        let start = Command { text: upstream.start, version: new, address: to };
        let starting = program::start(target, &start);
        let begun = steps.take(format!("start `{new}` at {to}, beside what runs"), starting).await;
        let result = match begun {
            Ok(running) => self
                .shift(target, steps, &Shift { text: &text, from, to, first: old.is_none() })
                .await
                .map(|()| running),
            Err(error) => Err(error),
        };
        let stop = upstream.stop.unwrap_or("");
        match result {
            Ok(running) => {
                place::switch(target, Some(new)).await?;
                if let Some(old) = old.filter(|old| *old != new) {
                    let halt = Command { text: stop, version: old, address: from };
                    steps.take(format!("stop `{old}` at {from}"), program::halt(target, &halt)).await?;
                }
                Ok(running)
            }
            Err(error) => {
                let restored = async {
                    if upstream.read(target).await? != text {
                        upstream.write(target, &text).await?;
                    }
                    program::halt(target, &Command { text: stop, version: new, address: to }).await
                };
                steps.take("give all requests back and stop the new version", restored).await.map_err(
                    |worse| {
                        Error::restarted(format!(
                            "{}; then giving the requests back failed: {worse}",
                            error.message
                        ))
                    },
                )?;
                Err(error)
            }
        }
    }

    async fn shift(&self, target: &mut Target, steps: &mut Steps, shift: &Shift<'_>) -> Result<(), Error> {
        let Service::Canary { steps: percents, hold, errors, .. } = self.service else {
            return Err(Error::refused("the service is no canary"));
        };
        let upstream = self.upstream()?;
        let care = at(&self.care, shift.to);
        // what does not answer gets no requests: nginx would hand out errors
        let checks = Care { soak: Duration::ZERO, ..care.clone() };
        health::watch(target, steps, &checks, None).await?;
        let percents = percents.iter().copied().filter(|percent| (1..100).contains(percent) && !shift.first);
        for percent in percents.chain([100]) {
            let size = upstream.log_size(target).await?;
            let written = async {
                let text = weights::weigh(shift.text, upstream.name, shift.from, shift.to, percent);
                let text = text.ok_or_else(|| upstream.missing())?;
                upstream.write(target, &text).await
            };
            steps.take(format!("{percent} % of the requests to {}", shift.to), written).await?;
            let hold = if percent == 100 { care.soak } else { *hold };
            let began = Instant::now();
            let watched = async {
                loop {
                    let (all, bad) = upstream.errors(target, size, shift.to).await?;
                    if all >= FEWEST && bad * 100 > all * u64::from(*errors) {
                        return Err(Error::failed(format!(
                            "{bad} of {all} requests to {} failed, more than {errors} %",
                            shift.to
                        )));
                    }
                    if began.elapsed() >= hold {
                        return Ok((all, bad));
                    }
                    tokio::time::sleep(BETWEEN_LOOKS.min(hold)).await;
                }
            };
            let (all, bad) = steps.take(format!("watch errors for {} s", hold.as_secs()), watched).await?;
            steps.note(&format!("{bad} of {all} requests to {} failed", shift.to));
            if all < FEWEST && percent < 100 {
                steps.note("warning: so few requests prove nothing; `log` of the service or a longer `hold` is missing");
            }
            health::watch(target, steps, &checks, None).await?;
        }
        Ok(())
    }
}

struct Shift<'a> {
    text: &'a str,
    from: &'a str,
    to: &'a str,
    /// Nothing runs that could serve meanwhile.
    first: bool,
}

/// The checks, `{address}` in them replaced.
fn at(care: &Care, address: &str) -> Care {
    let put = |text: &String| text.replace("{address}", address);
    let health = care.health.iter().map(|health| Health {
        check: match &health.check {
            Check::Http(text) => Check::Http(put(text)),
            Check::Tcp(text) => Check::Tcp(put(text)),
            Check::Eval(text) => Check::Eval(put(text)),
            Check::Command(text) => Check::Command(put(text)),
        },
        within: health.within,
    });
    Care { health: health.collect(), ..care.clone() }
}

impl Upstream<'_> {
    async fn read(&self, target: &Target) -> Result<String, Error> {
        let script = target.script(READ).set("FILE", self.file);
        let output = target.session().run(&script, ANSWER_LIMIT).await?;
        if output.code != Some(0) || !output.stdout.contains(self.name) {
            return Err(self.missing());
        }
        Ok(output.stdout)
    }

    fn missing(&self) -> Error {
        Error::refused(format!("`{}` on the target has no `upstream {}`", self.file, self.name))
            .help("write `upstream NAME { server ADDRESS; }` there, included by nginx, and let the deploying user write it")
    }

    async fn write(&self, target: &Target, text: &str) -> Result<(), Error> {
        let script = target.script(WRITE).set("FILE", self.file).set("TEXT", text);
        let script = script.set("CHECK", self.test).set("RELOAD", self.reload);
        target.demand(&script, "changing the weights", ANSWER_LIMIT).await.map(drop)
    }

    async fn log_size(&self, target: &Target) -> Result<u64, Error> {
        let Some(log) = self.log else { return Ok(0) };
        let output = target.session().run(&target.script(SIZE).set("FILE", log), ANSWER_LIMIT).await?;
        Ok(output.stdout.trim().parse().unwrap_or(0))
    }

    async fn errors(&self, target: &Target, from: u64, address: &str) -> Result<(u64, u64), Error> {
        let Some(log) = self.log else { return Ok((0, 0)) };
        let script = target.script(SINCE).set("FILE", log).set("FROM", &(from + 1).to_string());
        let output = target.session().run(&script, ANSWER_LIMIT).await?;
        Ok(weights::count(&output.stdout, address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_ask_the_new_address() {
        let health = Health { check: Check::Http("http://{address}/up".into()), within: Duration::ZERO };
        let care = at(&Care { health: vec![health], ..Care::default() }, "127.0.0.1:2");
        assert_eq!(care.health[0].check, Check::Http("http://127.0.0.1:2/up".into()));
    }
}
