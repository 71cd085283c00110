//! What must hold after a deployment, asked on the target itself: nothing but the ssh connection has to reach it.

use std::time::{Duration, Instant};

use crate::release::installed::Boot;

use super::apply::Care;
use super::error::Error;
use super::file::{Check, Health};
use super::steps::Steps;
use super::target::Target;

const LIMIT: Duration = Duration::from_secs(60);
const BETWEEN_TRIES: Duration = Duration::from_millis(500);
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

const HTTP: &str = r#"
if command -v curl >/dev/null 2>&1; then
    code=$(curl -s -S -g -o /dev/null -w '%{http_code}' --max-time 10 -- "$WHAT") || exit 1
    case $code in 2??|3??) exit 0 ;; esac
    echo "the answer is $code" >&2
    exit 1
elif command -v wget >/dev/null 2>&1; then
    wget -q -T 10 -O /dev/null "$WHAT"
else
    echo "the target has neither curl nor wget: use \`tcp\` or \`eval\`" >&2
    exit 1
fi
"#;

/// Without `nc` and bash, the release's own node connects.
const TCP: &str = r#"
if command -v nc >/dev/null 2>&1; then nc -z -w 5 "$HOST" "$PORT"
elif command -v bash >/dev/null 2>&1; then bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$HOST" "$PORT"
else
    said=$("$(tool)" eval "element(1,gen_tcp:connect(\"$HOST\",$PORT,[],5000)).") || exit 1
    case $said in *ok*) ;; *) echo "$said" >&2; exit 1 ;; esac
fi
"#;

const EVAL: &str = r#"
said=$("$(tool)" eval "$WHAT" 2>&1) || { printf '%s\n' "$said" >&2; exit 1; }
case $said in true|ok) exit 0 ;; esac
printf 'the value is %s, neither true nor ok\n' "$said" >&2
exit 1
"#;

const COMMAND: &str = r#"cd "$T" && sh -c "$WHAT""#;

/// All checks must become true, each within its time, and then stay true for the soak time. `boot`: the node must
/// neither end nor restart meanwhile.
///
/// # Errors
/// The first check that fails, with what it said.
pub(crate) async fn watch(
    target: &mut Target,
    steps: &mut Steps,
    care: &Care,
    boot: Option<&Boot>,
) -> Result<(), Error> {
    for health in &care.health {
        steps.take(format!("health: {}", name(&health.check)), becomes_true(target, health)).await?;
    }
    if care.soak.is_zero() {
        return Ok(());
    }
    let watch = async {
        let began = Instant::now();
        while began.elapsed() < care.soak {
            tokio::time::sleep(BETWEEN_LOOKS.min(care.soak)).await;
            stays_true(target, care, boot).await?;
        }
        Ok(())
    };
    steps.take(format!("watch it for {} s", care.soak.as_secs()), watch).await
}

async fn becomes_true(target: &mut Target, health: &Health) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        let Err(error) = ask(target, &health.check).await else { return Ok(()) };
        if began.elapsed() >= health.within {
            return Err(Error::failed(format!(
                "the health check {} did not become true within {} s: {error}",
                name(&health.check),
                health.within.as_secs()
            )));
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

async fn stays_true(target: &mut Target, care: &Care, boot: Option<&Boot>) -> Result<(), Error> {
    if let Some(boot) = boot {
        // once more: a query may get lost where a node does not
        let mut same = false;
        for _ in 0..2 {
            let survey = target.query_mended().await?;
            same = survey.evidence.snapshot.as_ref().is_some_and(|node| &node.boot == boot);
            if same {
                break;
            }
        }
        if !same {
            return Err(Error::failed("the node ended or restarted while it was watched"));
        }
    }
    for health in &care.health {
        if ask(target, &health.check).await.is_err() {
            tokio::time::sleep(BETWEEN_TRIES).await;
            ask(target, &health.check).await.map_err(|error| {
                Error::failed(format!(
                    "the health check {} was true and is not any more: {error}",
                    name(&health.check)
                ))
            })?;
        }
    }
    Ok(())
}

/// Asks once. The error is what the check said.
async fn ask(target: &Target, check: &Check) -> Result<(), String> {
    let script = match check {
        Check::Http(url) => target.script(HTTP).set("WHAT", url),
        Check::Tcp(address) => {
            let (host, port) = address.rsplit_once(':').ok_or("it is not written as `host:port`")?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            if port.parse::<u16>().is_err() || host.contains(['"', '\\']) {
                return Err("it is not written as `host:port`".to_owned());
            }
            target.script(TCP).set("HOST", host).set("PORT", port)
        }
        Check::Eval(expression) => {
            let expression = expression.trim();
            let dot = if expression.ends_with('.') { "" } else { "." };
            target.script(EVAL).set("WHAT", &format!("{}{dot}", expression.replace('\n', " ")))
        }
        Check::Command(command) => target.script(COMMAND).set("WHAT", command),
    };
    let output = target.session().run(&script, LIMIT).await.map_err(|error| error.to_string())?;
    if output.code == Some(0) {
        return Ok(());
    }
    let said = output.tail();
    Err(if said.is_empty() {
        output.code.map_or("killed".to_owned(), |code| format!("exit code {code}"))
    } else {
        said
    })
}

/// The check as people wrote it.
fn name(check: &Check) -> String {
    match check {
        Check::Http(what) => format!("`http: {what}`"),
        Check::Tcp(what) => format!("`tcp: {what}`"),
        Check::Eval(what) => format!("`eval: {what}`"),
        Check::Command(what) => format!("`command: {what}`"),
    }
}
