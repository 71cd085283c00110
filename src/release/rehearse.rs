//! An upgrade on a throw-away copy on this machine: up, looked at, down again.
//!
//! The copy has its own directory, node name, cookie and epmd, all of them on loopback only, and is ended by process id.
//! What it can't have is its own network: a release that listens on fixed ports needs them free here.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::Pid;
use serde::Serialize;
use tokio::process::Command;

use super::{
    Error, Package, archive,
    erlang::Term,
    relup::{Instruction, Script},
};

/// What is rehearsed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The version that runs: its whole package, with the runtime system.
    pub old: &'a Package,
    /// The package with the relup.
    pub new: &'a Package,
    /// An Erlang expression for the old version before the upgrade.
    pub setup: Option<&'a str>,
    /// An Erlang expression that must be `true` after the upgrade, and again after going back.
    pub check: Option<&'a str>,
    /// How long the node may take to start, and each way.
    pub limit: Duration,
}

/// How it went. Serialized, it is the document of `ci release rehearse --format json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rehearsal {
    /// Version of this document's form.
    pub format: u32,
    /// The release.
    pub name: String,
    /// From this version.
    pub from: String,
    /// To this one.
    pub to: String,
    /// SHA-256 of both packages.
    pub packages: [String; 2],
    /// Whether the upgrade is fit to be made.
    pub fit: bool,
    /// Why not.
    pub problems: Vec<String>,
    /// What was done, with the seconds that it took.
    pub steps: Vec<(String, f64)>,
}

/// Tells of each step when it is done.
pub type Told<'a> = &'a (dyn Fn(&str, f64) + Send + Sync);

/// Rehearses. That the upgrade is not fit is an answer, not an error.
///
/// # Errors
/// It can't be rehearsed: the old package has no runtime system, the copy can't be made, or somebody interrupts.
pub async fn rehearse(request: Request<'_>, told: Told<'_>) -> Result<Rehearsal, Error> {
    let Request { old, new, .. } = request;
    if !old.has_erts() {
        return Err(Error::Project(format!(
            "`{}` has no runtime system in it, so it can't be started here; use the whole package of `{}`",
            old.path.display(),
            old.rel.version
        )));
    }
    let rehearsal = Rehearsal {
        format: 1,
        name: new.rel.name.clone(),
        from: old.rel.version.clone(),
        to: new.rel.version.clone(),
        packages: [old.sha256.clone(), new.sha256.clone()],
        fit: false,
        problems: Vec::new(),
        steps: Vec::new(),
    };
    let copy = Copy::make(old)?;
    let mut stage = Stage { request, copy, rehearsal, told };
    let result = tokio::select! {
        result = stage.play() => result,
        _ = tokio::signal::ctrl_c() => return Err(Error::Project("interrupted; the copy was ended and removed".to_owned())),
    };
    match result {
        Ok(()) => {}
        Err(Stop::Unfit(problem)) => stage.rehearsal.problems.push(problem),
        Err(Stop::Failed(error)) => return Err(error),
    }
    stage.rehearsal.fit = stage.rehearsal.problems.is_empty();
    Ok(stage.rehearsal)
}

enum Stop {
    Unfit(String),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

const BOOT: &str = "{whereis(kernel_sup),erlang:system_info(creation)}.";
const CURRENT: &str = "[V||{_,V,_,current}<-release_handler:which_releases()].";
const REGISTERED: &str = "lists:sort([{N,whereis(N)}||N<-registered()]).";
/// `code:which` would name the file that a module was loaded from, and hide one that the relup forgot.
const STALE: &str = "[M||{A,_,_}<-application:which_applications(),{ok,Ms}<-[application:get_key(A,modules)],M<-Ms,\
    erlang:module_loaded(M),F<-[code:where_is_file(atom_to_list(M)++\".beam\")],is_list(F),\
    element(2,element(2,beam_lib:md5(F)))=/=M:module_info(md5)].";

struct Stage<'a> {
    request: Request<'a>,
    copy: Copy,
    rehearsal: Rehearsal,
    told: Told<'a>,
}

impl Stage<'_> {
    async fn play(&mut self) -> Result<(), Stop> {
        let (old, new) = (self.request.old, self.request.new);
        let (from, to) = (old.rel.version.clone(), new.rel.version.clone());
        self.start(&from).await?;
        if let Some(setup) = self.request.setup {
            let began = Instant::now();
            self.value(setup).await?;
            self.done("setup", began);
        }
        let boot = self.value(BOOT).await?;
        let before = self.value(REGISTERED).await?;
        let archive = self.copy.root.join(format!("releases/{}-{to}.tar.gz", new.rel.name));
        fs::copy(&new.path, &archive).map_err(Error::io("copying to", &archive))?;

        self.install(&format!("upgrade to {to}"), &to, &boot).await?;
        let current = self.value(CURRENT).await?;
        if !current.contains(&format!("\"{to}\"")) {
            return Err(Stop::Unfit(format!("after the upgrade `{to}` is not current, but {current}")));
        }
        let stale = self.value(STALE).await?;
        if stale != "[]" {
            return Err(Stop::Unfit(format!("after the upgrade the old code of {stale} is still loaded")));
        }
        self.check(&format!("check of {to}")).await?;
        let relup = new.relup()?;
        let up = relup.as_ref().and_then(|relup| relup.up_from(&from));
        self.processes(&before, up).await?;

        let Some(down) = relup.as_ref().and_then(|relup| relup.down_to(&from)) else { return Ok(()) };
        let before = self.value(REGISTERED).await?;
        self.install(&format!("back to {from}"), &from, &boot).await?;
        self.check(&format!("check of {from}")).await?;
        self.processes(&before, Some(down)).await
    }

    fn done(&mut self, step: &str, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        (self.told)(step, seconds);
        self.rehearsal.steps.push((step.to_owned(), seconds));
    }

    async fn start(&mut self, version: &str) -> Result<(), Stop> {
        let began = Instant::now();
        let said = self.copy.script(&["daemon"], self.request.limit).await?;
        if said.code != Some(0) {
            return Err(Stop::Unfit(format!(
                "`{version}` does not start here ({}): {}",
                said.ending(),
                self.copy.last_log_lines()
            )));
        }
        // rebar3's `daemon` waits until the node answers, which it does before its applications run; mix's does not wait.
        // For a moment it is `started` also when they can't, but nobody answers for them then.
        loop {
            match self.value(BOOTED).await {
                Ok(state) if state == "started" => break,
                Err(Stop::Failed(error)) => return Err(Stop::Failed(error)),
                Err(unfit) if self.copy.processes().is_empty() => return Err(unfit),
                _ => {}
            }
            if began.elapsed() > self.request.limit {
                return Err(Stop::Unfit(format!("`{version}` is not up after {:?}", self.request.limit)));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.done(&format!("start {version}"), began);
        Ok(())
    }

    async fn install(&mut self, step: &str, version: &str, boot: &str) -> Result<(), Stop> {
        let began = Instant::now();
        let said = self.copy.script(&["install", "--no-permanent", version], self.request.limit).await?;
        if said.code != Some(0) {
            let after = match self.stays(boot).await {
                true => "the node went on, untouched",
                false => "the node restarted and its state is lost",
            };
            return Err(Stop::Unfit(format!("{step} failed ({}): {}; {after}", said.ending(), said.gist())));
        }
        if self.value(BOOT).await? != boot {
            return Err(Stop::Unfit(format!("{step}: the node restarted, and its state is lost")));
        }
        self.done(step, began);
        Ok(())
    }

    /// Whether the node is still the one that it was. One that has decided to restart may answer once or twice more.
    async fn stays(&self, boot: &str) -> bool {
        for _ in 0..6 {
            match self.value(BOOT).await {
                Ok(now) if now == boot => tokio::time::sleep(Duration::from_millis(500)).await,
                _ => return false,
            }
        }
        true
    }

    async fn check(&mut self, step: &str) -> Result<(), Stop> {
        let Some(check) = self.request.check else { return Ok(()) };
        let began = Instant::now();
        let value = self.value(check).await?;
        if value != "true" {
            return Err(Stop::Unfit(format!("{step}: it is not `true`, but {value}")));
        }
        self.done(step, began);
        Ok(())
    }

    /// A registered process with another pid was restarted: what it knew is lost. Unless the relup wanted that.
    async fn processes(&mut self, before: &str, script: Option<&Script>) -> Result<(), Stop> {
        let wanted = script.is_some_and(|script| script.instructions.iter().any(stops));
        let after = self.value(REGISTERED).await?;
        if wanted {
            return Ok(());
        }
        let old = pairs(before);
        let new = pairs(&after);
        let restarted: Vec<&str> = new
            .iter()
            .filter(|(name, pid)| old.iter().any(|(known, was)| known == name && was != pid))
            .map(|(name, _)| *name)
            .collect();
        if restarted.is_empty() {
            return Ok(());
        }
        Err(Stop::Unfit(format!(
            "the processes {} crashed and were restarted: their state is lost",
            restarted.join(", ")
        )))
    }

    /// The value of an expression on the node, as it is printed.
    async fn value(&self, expression: &str) -> Result<String, Stop> {
        let expression = expression.trim();
        let dot = if expression.ends_with('.') { "" } else { "." };
        let said =
            self.copy.script(&["eval", &format!("{expression}{dot}")], Duration::from_secs(90)).await?;
        let value = said.text.trim().to_owned();
        if said.code != Some(0) || value.starts_with("{error, \"***") || value.starts_with("{error,\"***") {
            return Err(Stop::Unfit(format!("`{expression}` fails ({}): {value}", said.ending())));
        }
        Ok(value)
    }
}

fn stops(instruction: &Instruction) -> bool {
    let of_application = |module: &str, function: &str, args: &[Term]| {
        let stop = function == "stop" || function == "terminate_child" || function == "restart_child";
        stop && (module == "application" || module == "supervisor") && !args.is_empty()
    };
    match instruction {
        Instruction::Stop(_) => true,
        Instruction::Apply { module, function, args } => of_application(module, function, args),
        _ => false,
    }
}

/// Names and pids out of `[{a,<0.1.0>}, ...]`; pids can't be read as terms.
fn pairs(printed: &str) -> Vec<(&str, &str)> {
    let inner = printed.split('{').skip(1).filter_map(|part| part.split('}').next());
    inner.filter_map(|pair| pair.split_once(',')).map(|(name, pid)| (name.trim(), pid.trim())).collect()
}

/// What the release's script said.
struct Said {
    code: Option<i32>,
    late: bool,
    text: String,
}

impl Said {
    /// The error in one line, cut where it becomes a dump.
    fn gist(&self) -> String {
        let from = self.text.find("ERROR").unwrap_or(0);
        let words: Vec<&str> = self.text[from..].split_whitespace().collect();
        words.join(" ").chars().take(300).collect()
    }

    fn ending(&self) -> String {
        match (self.late, self.code) {
            (true, _) => "it took too long".to_owned(),
            (_, Some(code)) => format!("exit code {code}"),
            _ => "killed".to_owned(),
        }
    }
}

const BOOTED: &str =
    "case {element(1, init:get_status()), application:which_applications()} of {S, _} -> S end";

/// Waits until nobody holds its standard input any more, then ends what runs from `$1` or in it, and removes it. So there is
/// one end for a copy, whether we let go of it or are killed.
const GUARD: &str = r#"
cat >/dev/null
dir=$1
calm=0
rounds=0
while [ "$calm" -lt 2 ] && [ "$rounds" -lt 400 ]; do
    rounds=$((rounds + 1))
    pids=$(ls -l /proc/[0-9]*/exe /proc/[0-9]*/cwd 2>/dev/null | awk -v dir=" -> $dir" '
        (at = index($0, dir)) && substr($0, at + length(dir)) ~ /^(\/| \(deleted\)|$)/ {
            match($0, /\/proc\/[0-9]+\//)
            print substr($0, RSTART + 6, RLENGTH - 7)
        }')
    if [ -z "$pids" ]; then
        calm=$((calm + 1))
    else
        calm=0
        kill -9 $pids 2>/dev/null
    fi
    # one that was just starting another may be a moment late
    sleep 0.02 2>/dev/null || sleep 1
done
rm -rf "$dir"
"#;

/// The throw-away copy. When it is dropped, or we are gone, its processes are killed and its files removed.
struct Copy {
    /// Has nothing left to remove, unless the guard was killed.
    dir: tempfile::TempDir,
    root: PathBuf,
    name: String,
    port: u16,
    guard: std::process::Child,
}

impl Copy {
    fn make(old: &Package) -> Result<Copy, Error> {
        // paths of pipes and sockets have to be short
        let dir = tempfile::Builder::new().prefix("ci-r").tempdir();
        let dir = dir.map_err(Error::io("making a directory in", &std::env::temp_dir()))?;
        let root = dir.path().join("r");
        let guard = guard(dir.path())?;
        let mut copy = Copy { dir, root, name: old.rel.name.clone(), port: 0, guard };
        copy.fill(old)?;
        Ok(copy)
    }

    fn fill(&mut self, old: &Package) -> Result<(), Error> {
        let Copy { dir, root, port, .. } = self;
        archive::unpack(&old.path, root)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr());
        *port = listener.map_err(Error::io("finding a free port for", root))?.port();
        let releases = root.join("releases").join(&old.rel.version);
        let args = ["vm.args", "vm.args.src"]
            .into_iter()
            .find_map(|file| fs::read_to_string(releases.join(file)).ok());
        let to = dir.path().join("vm.args");
        fs::write(&to, own_arguments(&args.unwrap_or_default(), dir.path()))
            .map_err(Error::io("writing", &to))
    }

    /// Runs `bin/NAME`. Its output goes to a file: a daemon may keep a pipe open.
    async fn script(&self, args: &[&str], limit: Duration) -> Result<Said, Error> {
        let (bin, out) = (self.root.join("bin"), self.dir.path().join("out"));
        let path =
            Some(bin.join("slipway")).filter(|path| path.exists()).unwrap_or_else(|| bin.join(&self.name));
        let file = File::create(&out).map_err(Error::io("creating", &out))?;
        let both = file.try_clone().map_err(Error::io("creating", &out))?;
        let mut command = Command::new(&path);
        command.args(args).current_dir(&self.root).envs(self.environment());
        for unwanted in [
            "RELX_CONFIG_PATH",
            "RELX_COOKIE",
            "ERL_FLAGS",
            "ERL_AFLAGS",
            "ERL_ZFLAGS",
            "ERL_DIST_PORT",
            "ERL_LIBS",
        ] {
            command.env_remove(unwanted);
        }
        command.stdin(Stdio::null()).stdout(file).stderr(both).kill_on_drop(true);
        let mut child = command.spawn().map_err(Error::io("starting", &path))?;
        let ended = tokio::time::timeout(limit, child.wait()).await;
        let text = fs::read(&out).map_err(Error::io("reading", &out))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(match ended {
            Ok(status) => {
                Said { code: status.map_err(Error::io("running", &path))?.code(), late: false, text }
            }
            Err(_late) => Said { code: None, late: true, text },
        })
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let at = |part: &str| self.dir.path().join(part).display().to_string();
        vec![
            ("HOME", at("")),
            ("ERL_EPMD_PORT", self.port.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("PIPE_DIR", at("p/")),
            ("VMARGS_PATH", at("vm.args")),
            ("ERL_CRASH_DUMP", "/dev/null".to_owned()),
            ("RELEASE_NODE", format!("rehearse{}@127.0.0.1", std::process::id())),
            ("RELEASE_DISTRIBUTION", "name".to_owned()),
            ("RELEASE_COOKIE", word(self.dir.path())),
            ("ELIXIR_ERL_OPTIONS", "-kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
        ]
    }

    fn last_log_lines(&self) -> String {
        let of = |part| fs::read_dir(self.root.join(part)).into_iter().flatten().flatten();
        let logs = of("log").chain(of("tmp/log"));
        let latest =
            logs.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("erlang.log"));
        let text = latest.max().and_then(|path| fs::read(path).ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }

    /// Processes whose program lies in the copy: nobody else's can.
    fn processes(&self) -> Vec<Pid> {
        let dir = self.dir.path().canonicalize().unwrap_or_else(|_| self.dir.path().to_owned());
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
        let ours =
            |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(&dir));
        all.filter_map(pid).filter(ours).filter_map(Pid::from_raw).collect()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _gone_already = self.guard.wait();
    }
}

/// In a group of its own: whoever ends ours, as a terminal does, leaves it to its work.
fn guard(dir: &Path) -> Result<std::process::Child, Error> {
    let dir = dir.canonicalize().map_err(Error::io("opening", dir))?;
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", GUARD, "sh"]).arg(&dir).current_dir("/").process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn().map_err(Error::io("starting a shell that guards", &dir))
}

/// The directory's name is random.
fn word(dir: &Path) -> String {
    dir.to_string_lossy().chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The release's arguments with a name and a cookie of our own, on loopback, and without `heart`.
fn own_arguments(arguments: &str, dir: &Path) -> String {
    let own = ["-name", "-sname", "-setcookie", "-heart"];
    let kept = arguments
        .lines()
        .filter(|line| line.split_whitespace().next().is_none_or(|flag| !own.contains(&flag)));
    let mut text = format!(
        "-name rehearse{}@127.0.0.1\n-setcookie {}\n-kernel inet_dist_use_interface {{127,0,0,1}}\n",
        std::process::id(),
        word(dir)
    );
    kept.for_each(|line| {
        text.push_str(line);
        text.push('\n');
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_gets_a_name_and_a_cookie_of_its_own() {
        let text = own_arguments(
            "-name urf@host\n-setcookie secret\n+S 2\n-heart\n## -name\n",
            Path::new("/tmp/ci-rAb1"),
        );
        assert!(!text.contains("urf@host") && !text.contains("secret") && !text.contains("-heart"), "{text}");
        assert!(text.contains("-setcookie tmpcirAb1\n") && text.ends_with("+S 2\n## -name\n"), "{text}");
    }

    #[test]
    fn names_and_pids_are_read_as_printed() {
        assert_eq!(pairs("[{a,<0.1.0>}, {'b c', <9.2.0>}]"), [("a", "<0.1.0>"), ("'b c'", "<9.2.0>")]);
        assert_eq!(pairs("[]"), []);
    }
}
