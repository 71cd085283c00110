//! The build side with a real rebar3 and a real OTP, on the application of `examples/urf` in three versions.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use slipway::release::{
    Error, Finding, Package, Project,
    build::{self, Origin},
    check,
    erlang::{Beam, Term, text},
    relup::Instruction,
    thin::{self, TargetLibraries},
};

fn run(dir: &Path, command: &[&str]) -> String {
    let out = Command::new(command[0]).args(&command[1..]).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Deployments build inside spawned tasks.
fn sendable<F: Future + Send>(future: F) -> F {
    future
}

/// A git repository with the three versions, its sources at `tag`.
struct Repository {
    _parent: tempfile::TempDir,
    dir: PathBuf,
    log: Mutex<Vec<String>>,
}

impl Repository {
    fn at(tag: &str) -> Repository {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("urf");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/urf/make-repository.sh");
        run(parent.path(), &["sh", script.to_str().unwrap(), dir.to_str().unwrap()]);
        run(&dir, &["git", "checkout", "-q", tag]);
        Repository { _parent: parent, dir, log: Mutex::default() }
    }

    fn project(&self) -> Project {
        Project::open(&self.dir, "default").unwrap()
    }

    async fn upgrade(&self, from: &[&str]) -> Result<build::BuiltUpgrade, Error> {
        let log = |line: &str| self.log.lock().unwrap().push(line.to_owned());
        let project = self.project();
        sendable(build::upgrade_from_each(&project, from, &log)).await
    }

    async fn fresh(&self) -> Result<build::BuiltRelease, Error> {
        build::fresh(&self.project(), &|line| self.log.lock().unwrap().push(line.to_owned())).await
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    fn logged(&self, text: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(text))
    }
}

fn codes(result: Result<build::BuiltUpgrade, Error>) -> Vec<&'static str> {
    match result {
        Err(Error::NoHotUpgrade { findings, .. }) => findings.iter().map(|finding| finding.code).collect(),
        Err(error) => panic!("{error}"),
        Ok(built) => panic!("it was built: {:?}", built.warnings),
    }
}

fn warning_codes(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.code).collect()
}

#[tokio::test]
async fn an_upgrade_is_derived_where_nothing_is_written_and_like_the_hand_written_one() {
    let repository = Repository::at("v0.2.0");
    let written = repository.upgrade(&["0.1.0"]).await.unwrap();
    assert!(matches!(&written.appups[0].origin, Origin::Written(path) if path.ends_with("ebin/urf.appup")));
    assert_eq!(run(&repository.dir, &["git", "status", "--porcelain"]), "", "the sources are untouched");
    assert!(repository.logged("building urf 0.1.0 from tag v0.1.0"));

    fs::remove_file(repository.dir.join("ebin/urf.appup")).unwrap();
    let derived = repository.upgrade(&["0.1.0"]).await.unwrap();
    assert_eq!(derived.appups[0].origin, Origin::Derived);
    assert_eq!(derived.appups[0].appup, written.appups[0].appup);
    assert_eq!(derived.relup, written.relup);
    assert_eq!(warning_codes(&derived.warnings), ["R016"]);
    let script = &derived.relup.up_from("0.1.0").unwrap().instructions;
    assert!(script.contains(&Instruction::CodeChange(vec!["urf_store".into()])), "{script:?}");
    assert!(derived.relup.down_to("0.1.0").is_some());

    let name = derived.release.path.file_name().unwrap();
    assert_eq!((name.to_str().unwrap(), &*derived.release.version), ("urf-0.2.0.tar.gz", "0.2.0"));
    thin_package_is_small_and_as_sound(&derived);
}

fn thin_package_is_small_and_as_sound(built: &build::BuiltUpgrade) {
    let (old, new) = (built.old[0].clone(), Package::read(&built.release.path).unwrap());
    assert!(old.has_erts() && new.has_erts());
    let target = TargetLibraries { erts: old.rel.erts.clone(), apps: old.rel.apps.clone() };
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("urf-0.2.0.tar.gz");
    let written = thin::write(&new, &target, &to).unwrap();
    assert_eq!(written.left_out.len(), 4, "{:?}", written.left_out);
    assert!(written.size < 100_000, "{}", written.size);
    let thin = Package::read(&to).unwrap();
    assert_eq!(thin.document("relup"), new.document("relup"));
    assert_eq!(thin.releases, new.releases);
    assert_eq!(warning_codes(&check::upgrade(&old, &thin)), ["R016"]);

    let node = Node::start(&built.old[0].path);
    assert_eq!(node.run(&["rpc", "urf_store", "incr"]), "1");
    let pid = node.run(&["pid"]);
    fs::copy(&to, node.dir.path().join("releases/urf-0.2.0.tar.gz")).unwrap();
    assert!(node.run(&["upgrade", "0.2.0"]).ends_with("Made release permanent: \"0.2.0\""));
    let info = node.run(&["eval", "urf_store:info()."]);
    assert!(info.starts_with("{v2, {state, 1,") || info.starts_with("{v2,{state,1,"), "{info}");
    let loaded = node.run(&["eval", "binary:decode_unsigned(urf_store:module_info(md5))."]);
    // erl_call prints large integers in base 16
    let packaged = u128::from_be_bytes(new.modules["urf"]["urf_store"].md5).to_string();
    assert_eq!(text::parse_one(&format!("{loaded}.")).unwrap().to_string(), packaged);
    node.run(&["downgrade", "0.1.0"]);
    assert_eq!(node.run(&["eval", "urf_store:info().",]).replace(' ', ""), "{v1,{state,1}}");
    assert_eq!(node.run(&["pid"]), pid, "the node never restarted");
}

/// A node that runs from an unpacked package, with an epmd of its own.
struct Node {
    dir: tempfile::TempDir,
    port: String,
}

impl Node {
    fn start(package: &Path) -> Node {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &["tar", "-xzf", package.to_str().unwrap()]);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let node = Node { dir, port: free.local_addr().unwrap().port().to_string() };
        drop(free);
        node.run(&["daemon"]);
        node
    }

    fn command(&self, program: &str, args: &[&str]) -> std::process::Output {
        let mut command = Command::new(self.dir.path().join(program));
        command.args(args).current_dir(self.dir.path());
        command.env("ERL_EPMD_PORT", &self.port).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.env("PIPE_DIR", format!("{}/pipes/", self.dir.path().display()));
        command.stdin(std::process::Stdio::null()).output().unwrap()
    }

    fn run(&self, args: &[&str]) -> String {
        let out = self.command("bin/urf", args);
        let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        assert!(out.status.success(), "{args:?}: {text} {}", String::from_utf8_lossy(&out.stderr));
        text
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.command("bin/urf", &["stop"]);
        let erts = fs::read_dir(self.dir.path()).unwrap().flatten().map(|entry| entry.file_name());
        let erts = erts.map(|name| name.into_string().unwrap()).find(|name| name.starts_with("erts-"));
        self.command(&format!("{}/bin/epmd", erts.unwrap()), &["-kill"]);
    }
}

#[tokio::test]
async fn one_relup_takes_several_versions() {
    let repository = Repository::at("v0.3.0");
    let built = repository.upgrade(&["0.2.0", "0.1.0"]).await.unwrap();
    assert_eq!(built.from, ["0.2.0", "0.1.0"]);
    for version in ["0.2.0", "0.1.0"] {
        assert!(built.relup.up_from(version).is_some() && built.relup.down_to(version).is_some());
    }

    // without the hand-written appup nobody knows which child the supervisor has got
    let written = fs::read_to_string(repository.dir.join("ebin/urf.appup")).unwrap();
    fs::remove_file(repository.dir.join("ebin/urf.appup")).unwrap();
    assert_eq!(codes(repository.upgrade(&["0.2.0"]).await), ["A003"]);

    // written for another version, or without the entry
    fs::create_dir_all(repository.dir.join("appups")).unwrap();
    let path = repository.dir.join("appups/urf.appup");
    fs::write(&path, written.replace("0.3.0", "0.2.9")).unwrap();
    assert_eq!(codes(repository.upgrade(&["0.2.0"]).await), ["A005"]);
    fs::write(&path, "{\"0.3.0\", [], []}.").unwrap();
    assert_eq!(codes(repository.upgrade(&["0.2.0"]).await), ["A006"]);

    // accepted by systools, yet the new code would not be loaded
    fs::write(&path, "{\"0.3.0\", [{<<\".*\">>, [{update, urf_sup, supervisor}]}], []}.").unwrap();
    assert_eq!(codes(repository.upgrade(&["0.2.0"]).await), ["R011", "R011"]);
    assert!(!repository.dir.join("_build/slipway/default/upgrade/urf-0.3.0.tar.gz").exists());
}

#[tokio::test]
async fn state_that_changed_without_code_change_is_refused() {
    let repository = Repository::at("v0.1.0");
    repository.edit("rebar.config", "0.1.0", "0.1.1");
    repository.edit("src/urf_store.erl", "{count = 0 :: non_neg_integer()}", "{count = 0, more = []}");
    // the application kept its version: unpacking would keep the old module
    assert_eq!(codes(repository.upgrade(&["0.1.0"]).await), ["R008"]);
    repository.edit("src/urf.app.src", "0.1.0", "0.1.1");
    assert_eq!(codes(repository.upgrade(&["0.1.0"]).await), ["A004"]);
    let convert = "code_change(_OldVsn, {state, N}, _Extra) -> {ok, #state{count = N}};\ncode_change(";
    repository.edit("src/urf_store.erl", "code_change(_OldVsn", &format!("{convert}_OldVsn"));
    let built = repository.upgrade(&["0.1.0"]).await.unwrap();
    assert_eq!(built.appups[0].appup.up[0].1[0].to_string(), "{update,urf_store,{advanced,[]}}");
}

#[tokio::test]
async fn what_can_t_be_built_says_what_to_do() {
    let repository = Repository::at("v0.2.0");
    let error = repository.upgrade(&["0.0.9"]).await.unwrap_err();
    assert!(matches!(error, Error::OldVersionMissing { .. }));
    assert!(error.to_string().contains("no tag `v0.0.9` or `0.0.9`"), "{error}");
    let error = repository.upgrade(&["0.2.0"]).await.unwrap_err().to_string();
    assert!(error.contains("needs older versions than `0.2.0`"), "{error}");

    repository.edit("rebar.config", "{include_erts, true}", "{include_erts, false}");
    let error = repository.fresh().await.unwrap_err().to_string();
    assert!(
        error.contains("lacks the Erlang runtime system") && error.contains("{include_erts, true}"),
        "{error}"
    );

    repository.edit("src/urf_store.erl", "-module(urf_store).", "-module(urf_store)");
    let error = repository.fresh().await.unwrap_err();
    let Error::Command { command, tail, .. } = &error else { panic!("{error}") };
    assert!(command.starts_with("REBAR_BASE_DIR=") && command.ends_with(" rebar3 tar"), "{command}");
    assert!(tail.iter().any(|line| line.contains("urf_store.erl")), "{tail:?}");
}

#[tokio::test]
async fn without_a_tag_a_package_that_was_built_before_is_taken() {
    let repository = Repository::at("v0.1.0");
    let fresh = repository.fresh().await.unwrap();
    assert_eq!((&*fresh.name, &*fresh.version), ("urf", "0.1.0"));
    run(&repository.dir, &["git", "checkout", "-q", "v0.2.0"]);
    run(&repository.dir, &["git", "tag", "-d", "v0.1.0"]);
    let built = repository.upgrade(&["0.1.0"]).await.unwrap();
    assert_eq!(built.old[0].path, fresh.path);
    assert!(repository.logged("no git tag: upgrading from the package"));
}

#[test]
fn module_md5s_exports_imports_and_behaviours_are_those_of_beam_lib() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("ask.escript");
    fs::write(&script, "%%\nmain([]) -> ok = io:setopts([{encoding, unicode}]), lists:foreach(fun(F) ->
        {ok, {M, Md5}} = beam_lib:md5(F),
        {ok, {_, [{exports, E}, {imports, I}, {attributes, A}]}} = beam_lib:chunks(F, [exports, imports, attributes]),
        B = lists:append([V || {K, V} <- A, K =:= behaviour orelse K =:= behavior]),
        io:format(\"~0p.~n\", [{F, M, binary:decode_unsigned(Md5), length(lists:usort(E)), lists:usort([X || {X, _, _} <- I]), B}])
        end, filelib:wildcard(filename:join(code:lib_dir(), \"{stdlib,kernel,sasl,compiler}-*/ebin/*.beam\"))).").unwrap();
    let answers = text::parse(&run(dir.path(), &["escript", script.to_str().unwrap()])).unwrap();
    assert!(answers.len() > 200, "{}", answers.len());
    let names = |term: &Term| -> Vec<String> {
        term.as_list().unwrap().iter().map(|atom| atom.as_atom().unwrap().to_owned()).collect()
    };
    let mut kinds = BTreeMap::new();
    for answer in &answers {
        let [file, module, md5, exports, imports, behaviours] = answer.as_tuple().unwrap() else { panic!() };
        let beam = Beam::parse(&fs::read(file.text().unwrap()).unwrap()).unwrap();
        assert_eq!(Some(&*beam.module), module.as_atom());
        assert_eq!(u128::from_be_bytes(beam.md5).to_string(), md5.to_string(), "{}", beam.module);
        assert_eq!(Term::Int(beam.exports.len() as i64), *exports, "{}", beam.module);
        assert_eq!(beam.imports.iter().cloned().collect::<Vec<_>>(), names(imports), "{}", beam.module);
        assert_eq!(beam.behaviours().collect::<Vec<_>>(), names(behaviours), "{}", beam.module);
        *kinds.entry((beam.is_supervisor(), beam.is_process())).or_insert(0) += 1;
    }
    assert!(kinds[&(true, false)] > 3 && kinds[&(false, true)] > 10, "{kinds:?}");
}
