//! What is wrong in `.ci/deploy.yml` though every keyword is known: each with its line and column.

use pipelines::source::SourceMap;
use pipelines::yaml::{self, Node, Value};

use super::address::{Address, check_directory};
use super::error::Error;
use super::file::{Check, DeployFile, Environment, Notifier, Service, Way};

/// A mistake and the path of keys and indexes that leads to it.
struct Mistake {
    path: Vec<String>,
    message: String,
}

/// All mistakes in `file`, which was read from `text`, as one error.
pub(super) fn check(file: &DeployFile, text: &str) -> Result<(), Error> {
    let mistakes = mistakes(file);
    if mistakes.is_empty() {
        return Ok(());
    }
    let mut sources = SourceMap::new();
    let id = sources.add(DeployFile::PATH, text, None);
    let tree =
        yaml::parse(text, id, &mut Vec::new()).ok().and_then(|mut documents| documents.drain(..).next());
    let lines = mistakes.iter().map(|mistake| {
        let place = tree.as_ref().map(|tree| sources.position(reach(tree, &mistake.path).span));
        let place = place.map_or(String::new(), |place| format!(":{}:{}", place.line, place.column));
        format!("{}{place}: {}", DeployFile::PATH, mistake.message)
    });
    Err(Error::refused(lines.collect::<Vec<_>>().join("\n  ")).help("schemas/deploy.json describes the file"))
}

/// The node at the end of `path`, or the last one on the way that is there.
fn reach<'a>(tree: &'a Node, path: &[String]) -> &'a Node {
    let mut node = tree;
    for key in path {
        let next = match &node.value {
            // what YAML 1.1 reads as a boolean is a key all the same
            Value::Mapping(mapping) if key == "on" => mapping
                .iter()
                .find(|(key, _)| matches!(key.as_str(), Some("on" | "true")))
                .map(|(_, entry)| &entry.node),
            Value::Mapping(mapping) => mapping.get(key),
            Value::Sequence(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        let Some(next) = next else { break };
        node = next;
    }
    node
}

fn mistakes(file: &DeployFile) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut add = |path: &[&str], message: String| {
        found.push(Mistake { path: path.iter().map(|key| (*key).to_owned()).collect(), message });
    };
    let release = &file.release;
    if release.build.is_empty() != release.package.is_none() {
        let message = "`build` and `package` go together: the commands, and the file that they make";
        add(&["release"], message.to_owned());
    }
    for (name, environment) in &file.environments {
        for (path, message) in of_environment(file, environment) {
            let path: Vec<&str> =
                ["environments", name].into_iter().chain(path.iter().map(String::as_str)).collect();
            add(&path, message);
        }
    }
    for (index, notifier) in file.notify.iter().enumerate() {
        for (path, message) in of_notifier(file, notifier) {
            let index = index.to_string();
            let path: Vec<&str> =
                ["notify", &index].into_iter().chain(path.iter().map(String::as_str)).collect();
            add(&path, message);
        }
    }
    found
}

type At = (Vec<String>, String);

fn of_environment(file: &DeployFile, environment: &Environment) -> Vec<At> {
    let mut found: Vec<At> = Vec::new();
    let at = |path: &[&str]| path.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    for (index, target) in environment.targets.iter().enumerate() {
        if let Err(error) = Address::parse(target, "the target") {
            found.push((at(&["targets", &index.to_string()]), error.message));
        }
        if environment.targets[..index].contains(target) {
            found.push((at(&["targets", &index.to_string()]), format!("`{target}` is there twice")));
        }
    }
    if let Some(Err(error)) =
        environment.directory.as_ref().map(|path| check_directory(path, "the environment"))
    {
        found.push((at(&["directory"]), error.message));
    }
    let strategy = &environment.strategy;
    if strategy.allow.is_empty() {
        found.push((
            at(&["strategy", "allow"]),
            "nothing is allowed: name `hot`, `restart`, `fresh`".to_owned(),
        ));
    } else if strategy.prefer == Way::Fresh {
        let message = "`prefer` is `hot` or `restart`: where nothing runs, the way is always `fresh`";
        found.push((at(&["strategy", "prefer"]), message.to_owned()));
    } else if !strategy.allow.contains(&strategy.prefer) && strategy.allow.contains(&Way::Hot) {
        let message = "what is preferred is not in `allow`";
        found.push((at(&["strategy"]), message.to_owned()));
    }
    let rehearse = strategy.rehearse.iter();
    for (key, expression) in rehearse.flat_map(|r| [("setup", &r.setup), ("check", &r.check)]) {
        // the release's own script passes it through `echo`, and so does the shell
        if expression.as_ref().is_some_and(|text| text.trim().is_empty() || text.trim_end().contains('\n')) {
            let message = "an Erlang expression is one line that says something (`>-` in YAML folds several)";
            found.push((at(&["strategy", "rehearse", key]), message.to_owned()));
        }
    }
    let approvals = &environment.approvals;
    for (index, name) in
        approvals.from.iter().enumerate().filter(|(_, name)| !file.people.contains_key(*name))
    {
        found.push((
            at(&["approvals", "from", &index.to_string()]),
            format!("`{name}` is not among `people`"),
        ));
    }
    let able = if approvals.from.is_empty() { file.people.len() } else { approvals.from.len() };
    if approvals.count as usize > able {
        let message = format!("{} must approve, but only {able} can", approvals.count);
        found.push((at(&["approvals"]), message));
    }
    for (index, health) in environment.health.iter().enumerate() {
        let message = match &health.check {
            Check::Http(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                format!("`{url}` is no `http://` or `https://` address")
            }
            Check::Tcp(address) if address != "{address}" && !is_host_and_port(address) => {
                format!("`{address}` is not `host:port`")
            }
            _ => continue,
        };
        found.push((at(&["health", &index.to_string()]), message));
    }
    found.extend(of_service(environment));
    found
}

fn of_service(environment: &Environment) -> Vec<At> {
    let mut found: Vec<At> = Vec::new();
    let mut add = |kind: &str, key: &str, message: String| {
        let path = ["service", kind, key].into_iter().filter(|key| !key.is_empty());
        found.push((path.map(str::to_owned).collect(), message));
    };
    let absolute = |path: &str| path.starts_with('/') && !path.contains("/../");
    match &environment.service {
        Some(Service::Commands { start, .. }) if start.trim().is_empty() => {
            add("commands", "start", "nothing starts the program".to_owned());
        }
        Some(Service::Systemd(unit)) if !is_unit(unit) => {
            add("systemd", "", format!("`{unit}` is no name of a unit"));
        }
        Some(Service::Supervisord { program, server, .. }) => {
            if program.is_empty() || program.starts_with('-') || program.contains(char::is_whitespace) {
                add("supervisord", "program", format!("`{program}` is no name of a program"));
            }
            let after = |scheme| server.strip_prefix(scheme);
            if !after("unix://").is_some_and(absolute)
                && !after("http://").is_some_and(|rest| is_host_and_port(rest.trim_end_matches('/')))
            {
                let message = format!(
                    "`{server}` is neither `unix:///run/supervisor.sock` nor `http://127.0.0.1:9001`"
                );
                add("supervisord", "server", message);
            }
        }
        Some(Service::Binary { pid, binary, .. }) => {
            if !absolute(pid) {
                add("binary", "pid", format!("`{pid}` is no absolute path"));
            }
            let inside = match &environment.directory {
                Some(directory) => format!("{}/current/", directory.trim_end_matches('/')),
                None => "/current/".to_owned(),
            };
            if !absolute(binary) || !binary.contains(&inside) {
                let message = format!(
                    "`{binary}` is not below `{inside}`: the program executes that very path again, so the link decides the version"
                );
                add("binary", "binary", message);
            }
        }
        Some(Service::Canary { upstream, backends, steps, .. }) => {
            if !absolute(upstream) {
                add("canary", "upstream", format!("`{upstream}` is no absolute path"));
            }
            if backends[0] == backends[1] || !backends.iter().all(|backend| is_host_and_port(backend)) {
                add("canary", "backends", "two different addresses, each `host:port`, take turns".to_owned());
            }
            if steps.iter().any(|percent| !(1..=100).contains(percent)) {
                add("canary", "steps", "steps are percents from 1 to 100".to_owned());
            }
        }
        _ => {}
    }
    found
}

fn is_unit(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@:\\-".contains(&b))
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn of_notifier(file: &DeployFile, notifier: &Notifier) -> Vec<At> {
    let mut found: Vec<At> = Vec::new();
    let known = |name: &String| file.environments.contains_key(name);
    for (index, name) in notifier.environments.iter().enumerate().filter(|(_, name)| !known(name)) {
        let message = format!("`{name}` is no environment of this file");
        found.push((vec!["environments".to_owned(), index.to_string()], message));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_has_its_line_and_column() {
        let cases: &[(&str, &[&str])] = &[
            ("environments:\n  dev:\n    targets: [a, -x]\n", &[".ci/deploy.yml:3:18: the target is `-x`"]),
            ("environments:\n  dev:\n    targets: [a, a]\n", &[":3:18: `a` is there twice"]),
            ("environments:\n  dev:\n    directory: urf\n", &[":3:16: "]),
            ("environments:\n  dev:\n    strategy: {prefer: fresh}\n", &[":3:24: `prefer`"]),
            ("environments:\n  dev:\n    strategy: {rehearse: often}\n", &[":3:", "`rehearse` is `true`"]),
            (
                "environments:\n  dev:\n    strategy: {rehearse: {checks: 'true'}}\n",
                &["unknown field `checks`"],
            ),
            (
                "environments:\n  dev:\n    strategy: {rehearse: {check: ' '}}\n",
                &[":3:34: an Erlang expression"],
            ),
            ("environments:\n  dev:\n    approvals: {count: 1, from: [ann]}\n", &[":3:34: `ann`"]),
            ("environments:\n  dev:\n    approvals: {count: 1}\n", &["1 must approve, but only 0 can"]),
            ("environments:\n  dev:\n    health: [{http: 'h'}, {tcp: '80'}]\n", &[":3:14: ", ":3:27: `80`"]),
            (
                "environments:\n  dev:\n    service: {systemd: 'a b'}\n",
                &[":3:24: `a b` is no name of a unit"],
            ),
            (
                "environments:\n  dev:\n    service: {supervisord: {program: '', server: 'unix://s'}}\n",
                &[":3:38: ", ":3:50: `unix://s`"],
            ),
            (
                "environments:\n  dev:\n    directory: /srv/a\n    service: {binary: {pid: a.pid, binary: /srv/b/current/a}}\n",
                &[":4:29: `a.pid`", ":4:44: ", "not below `/srv/a/current/`"],
            ),
            (
                "environments:\n  dev:\n    service: {canary: {upstream: u, name: n, backends: ['h:1', 'h:1'], start: s, steps: [0], hold: 1s, errors: 1}}\n",
                &["`u` is no absolute", "two different", "from 1 to 100"],
            ),
            ("notify:\n  - {kind: slak, url: X}\n", &[".ci/deploy.yml:2:", "unknown variant `slak`"]),
            ("notify:\n  - {kind: slack, url: X, environments: [sit]}\n", &["`sit` is no environment"]),
            ("release: {build: [make]}\n", &[":1:10: `build` and `package`"]),
            // what serde finds
            ("environments:\n  dev:\n    target: [a]\n", &[".ci/deploy.yml:3:5: ", "unknown field `target`"]),
            ("environments:\n  dev:\n    soak: soon\n", &["not a duration", ":3:"]),
            ("environments:\n  dev:\n    health: [{http: a, tcp: b}]\n", &["one of `http`", ":3:"]),
            ("environments: [dev\n", &[".ci/deploy.yml:"]),
        ];
        for (text, expected) in cases {
            let error = DeployFile::parse(text).unwrap_err();
            for part in *expected {
                assert!(error.message.contains(part), "{part} is not in: {}", error.message);
            }
        }
    }
}
