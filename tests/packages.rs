//! `ci release` on real packages: the application of `examples/urf` in three versions, built once, sound and with faults.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod support;

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use slipway::release::{Project, build};
use support::said::{Said, said};

fn run(dir: &Path, command: &[&str]) -> String {
    let out = Command::new(command[0]).args(&command[1..]).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/urf").join(path)
}

/// The project's repository with `urf-0.1.0.tar.gz`, `urf-0.2.0.tar.gz` (from 0.1.0) and `urf-0.3.0.tar.gz` (from both) in
/// it. Made when the example has changed.
fn packages() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let files = run(
            Path::new("/"),
            &[
                "sh",
                "-c",
                "cd \"$0\" && find . -type f -print0 | sort -z | xargs -0 cat",
                example("").to_str().unwrap(),
            ],
        );
        let digest = slipway::digest::sha256_hex(files.as_bytes());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("urf-packages-{}", &digest[..8]));
        if !dir.join("urf-0.3.0.tar.gz").is_file() {
            let _ = fs::remove_dir_all(&dir);
            make(&dir);
        }
        dir
    })
}

fn make(dir: &Path) {
    run(Path::new("/"), &["sh", example("make-repository.sh").to_str().unwrap(), dir.to_str().unwrap()]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (version, from) in [("0.2.0", &["0.1.0"][..]), ("0.3.0", &["0.2.0", "0.1.0"])] {
        run(dir, &["git", "checkout", "-q", "-f", &format!("v{version}")]);
        let project = Project::open(dir, "default").unwrap();
        let built = runtime.block_on(build::upgrade_from_each(&project, from, &|_| {})).unwrap();
        fs::copy(&built.old[0].path, dir.join(built.old[0].path.file_name().unwrap())).unwrap();
        // the old version of 0.3.0's build is 0.2.0 without a relup: the one with it comes first
        let to = dir.join(format!("urf-{version}.tar.gz.made"));
        fs::copy(&built.release.path, &to).unwrap();
    }
    for version in ["0.2.0", "0.3.0"] {
        fs::rename(dir.join(format!("urf-{version}.tar.gz.made")), dir.join(format!("urf-{version}.tar.gz")))
            .unwrap();
    }
}

fn package(version: &str) -> String {
    packages().join(format!("urf-{version}.tar.gz")).display().to_string()
}

/// The same without the runtime system and Erlang's own applications: small, and so quickly read.
fn thin(version: &str) -> String {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        for version in ["0.1.0", "0.2.0"] {
            let mut files = read(&package(version));
            let otp = ["erts-", "lib/kernel-", "lib/stdlib-", "lib/sasl-"];
            files.retain(|(path, ..)| !otp.iter().any(|prefix| path.starts_with(prefix)));
            write(&dir.path().join(format!("urf-{version}.tar.gz")), &files);
        }
        dir
    });
    dir.path().join(format!("urf-{version}.tar.gz")).display().to_string()
}

fn ci(dir: &Path, home: &Path, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ci"));
    command.arg("release").args(args).current_dir(dir).stdin(Stdio::null());
    said(command.env("SLIPWAY_HOME", home).env("NO_COLOR", "1").env_remove("SERVER"))
}

/// In an empty directory that is no project.
fn anywhere(args: &[&str]) -> Said {
    let dir = tempfile::tempdir().unwrap();
    ci(dir.path(), dir.path(), args)
}

/// The codes of all errors, and of the warnings with a `w`.
fn codes(said: &Said) -> Vec<String> {
    let findings = said.json()["findings"].as_array().unwrap().clone();
    let code = |f: &serde_json::Value| {
        let warning = if f["severity"] == "warning" { "w" } else { "" };
        format!("{}{warning}", f["code"].as_str().unwrap())
    };
    findings.iter().map(code).collect()
}

/// The files of an archive.
type Files = Vec<(String, u32, Vec<u8>)>;

fn read(archive: &str) -> Files {
    let mut tar = tar::Archive::new(GzDecoder::new(File::open(archive).unwrap()));
    let mut files = Vec::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            let path = entry.path().unwrap().display().to_string();
            files.push((path, entry.header().mode().unwrap(), data));
        }
    }
    files
}

fn write(path: &Path, files: &Files) {
    let mut builder = tar::Builder::new(GzEncoder::new(File::create(path).unwrap(), Compression::fast()));
    for (name, mode, data) in files {
        let mut header = tar::Header::new_ustar();
        // set directly: `set_path` would refuse what we want to see refused
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(data.len() as u64);
        header.set_mode(*mode);
        header.set_cksum();
        builder.append(&header, &**data).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap();
}

/// The package of 0.2.0 with one change, in a directory of its own.
struct Faulty {
    dir: tempfile::TempDir,
}

impl Faulty {
    fn new(change: impl FnOnce(&mut Files)) -> Faulty {
        let mut files = read(&thin("0.2.0"));
        change(&mut files);
        let faulty = Faulty { dir: tempfile::tempdir().unwrap() };
        write(&faulty.path(), &files);
        faulty
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("urf-0.2.0.tar.gz")
    }

    fn check(&self) -> Said {
        anywhere(&["check", self.path().to_str().unwrap(), "--from", &thin("0.1.0"), "--format", "json"])
    }
}

fn replace(files: &mut Files, file: &str, from: &str, to: &str) {
    let (_, _, data) = files.iter_mut().find(|(path, ..)| path == file).unwrap();
    let text = String::from_utf8(data.clone()).unwrap();
    assert!(text.contains(from), "{file} has no {from}: {text}");
    *data = text.replace(from, to).into_bytes();
}

fn remove(files: &mut Files, file: &str) {
    let before = files.len();
    files.retain(|(path, ..)| path != file);
    assert!(files.len() < before, "{file}");
}

const RELUP: &str = "releases/0.2.0/relup";
const REL: &str = "releases/0.2.0/urf.rel";

#[test]
fn a_sound_upgrade_is_fit_and_says_what_it_will_kill() {
    let (old, new) = (package("0.1.0"), package("0.2.0"));
    let said = anywhere(&["check", &new, "--from", &old]).ended(0);
    said.says(&["warning[R016]", "urf 0.1.0 -> 0.2.0: fit for a hot upgrade (0 errors, 1 warning)"]);
    anywhere(&["check", &old]).ended(0).says(&["urf 0.1.0: sound (0 errors, 0 warnings)"]);
    anywhere(&["check", &old, "--from", &new]).ended(1).says(&["error[R009]", "not fit for a hot upgrade"]);
    anywhere(&["check", "--explain", "r013"])
        .ended(0)
        .says(&["R013: A process's module is replaced", "What to do: "]);
    anywhere(&["check", "--explain"]).ended(0).says(&["R001  ", "R027  ", "A006  "]);
    anywhere(&["check", "--explain", "R999"]).ended(2);
    anywhere(&["check", "/nowhere/urf-1.tar.gz"]).ended(2);
    anywhere(&["check", "9.9.9"]).ended(2).says(&["no package of version `9.9.9`"]);
}

/// Every fault that a package can have by itself, as it was seen to break a node or to be silently ignored.
#[test]
fn faulty_packages_are_found_before_they_are_sent() {
    type Fault = fn(&mut Files);
    let cases: &[(&str, Fault, &[&str])] = &[
        ("relup missing", |f| remove(f, RELUP), &["R009"]),
        (
            "relup for another version",
            |f| replace(f, RELUP, "[{\"0.1.0\"", "[{\"0.0.9\""),
            &["R009", "R009w"],
        ),
        ("relup syntax", |f| replace(f, RELUP, "point_of_no_return,", "point_of_no_return"), &["R009"]),
        ("unknown instruction", |f| replace(f, RELUP, "point_of_no_return", "point_of_return"), &["R009"]),
        ("beam missing", |f| remove(f, "lib/urf-0.2.0/ebin/urf_util.beam"), &["R012"]),
        (
            "corrupt beam",
            |f| f.iter_mut().find(|e| e.0.ends_with("urf_util.beam")).unwrap().2.truncate(100),
            &["R001"],
        ),
        (
            ".rel of another version",
            |f| replace(f, REL, "{\"urf\",\"0.2.0\"}", "{\"urf\",\"0.2.1\"}"),
            &["R001", "R001", "R003", "R009"],
        ),
        (".rel missing", |f| remove(f, REL), &["R001"]),
        ("no sasl", |f| replace(f, REL, "{sasl,", "{runtime_tools,"), &["R002", "R007"]),
        (
            "start.boot cut",
            |f| f.iter_mut().find(|e| e.0 == "releases/0.2.0/start.boot").unwrap().2.truncate(4096),
            &["R004"],
        ),
        (
            "emulator restart",
            |f| replace(f, RELUP, "point_of_no_return", "restart_new_emulator,point_of_no_return"),
            &["R010"],
        ),
        (
            "changed module forgotten",
            |f| replace(f, RELUP, "{load,{urf_store,", "{load,{urf_stork,"),
            &["R011"],
        ),
        (
            "no code_change",
            |f| replace(f, RELUP, "{code_change,up,[{urf_store,[]}]}", "{purge,[]}"),
            &["R013"],
        ),
        ("broken sys.config", |f| replace(f, "releases/0.2.0/sys.config", "}", ""), &["R005"]),
        ("another node name", |f| replace(f, "releases/0.2.0/vm.args", "urf@", "other@"), &["R006"]),
        ("start script missing", |f| remove(f, "bin/urf-0.2.0"), &["R003"]),
        (
            "application version not increased",
            |f| {
                replace(f, REL, "{urf,\"0.2.0\"", "{urf,\"0.1.0\"");
                f.iter_mut().for_each(|e| e.0 = e.0.replace("lib/urf-0.2.0", "lib/urf-0.1.0"));
            },
            &["R008"],
        ),
        (
            "a call after the point of no return",
            |f| {
                replace(
                    f,
                    RELUP,
                    "{resume,[urf_store]}",
                    "{resume,[urf_store]},{apply,{erlang,error,[boom]}}",
                )
            },
            &["R014w"],
        ),
    ];
    for (name, fault, expected) in cases {
        let said = Faulty::new(*fault).check();
        let found = codes(&said);
        for code in *expected {
            assert!(
                found.contains(&(*code).to_owned()),
                "{name}: {code} is not in {found:?}\n{}",
                said.stdout
            );
        }
        let errors = expected.iter().any(|code| !code.ends_with('w'));
        assert_eq!(said.code, i32::from(errors), "{name}: {found:?}");
    }
}

#[test]
fn archives_that_are_no_packages_are_refused_and_nothing_happens() {
    let whole = fs::read(thin("0.2.0")).unwrap();
    let faulty = Faulty::new(|_| {});
    for (name, bytes) in [
        ("garbage", b"not an archive".to_vec()),
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("empty", Vec::new()),
    ] {
        fs::write(faulty.path(), bytes).unwrap();
        assert_eq!(codes(&faulty.check().ended(1)), ["R001"], "{name}");
        anywhere(&["inspect", faulty.path().to_str().unwrap()]).ended(1).says(&["is not usable"]);
    }
    let marker = faulty.dir.path().join("marker");
    let touch = format!("$(touch {})", marker.display());
    type Hostile<'a> = (&'a str, Box<dyn Fn(&mut Files) + 'a>);
    let file = |path: &str| (path.to_owned(), 0o644, b"x".to_vec());
    let hostile: Vec<Hostile<'_>> = vec![
        ("climbs", Box::new(|f| f.push(file("../../marker")))),
        ("absolute", Box::new(|f| f.push(file("/tmp/marker")))),
        ("climbs inside", Box::new(|f| f.push(file("lib/../../marker")))),
        ("twice", Box::new(|f| f.push(file("bin/urf")))),
        ("name that is a command", Box::new(|f| replace(f, REL, "\"urf\"", &format!("\"{touch}\"")))),
        (
            "version that is a command",
            Box::new(|f| replace(f, REL, "{\"urf\",\"0.2.0\"}", "{\"urf\",\"1;touch marker\"}")),
        ),
        (
            "version that is a path",
            Box::new(|f| replace(f, REL, "{\"urf\",\"0.2.0\"}", "{\"urf\",\"../1\"}")),
        ),
        (
            "version that is an option",
            Box::new(|f| replace(f, REL, "{\"urf\",\"0.2.0\"}", "{\"urf\",\"--help\"}")),
        ),
        ("application that is a command", Box::new(|f| replace(f, REL, "{sasl,", "{'`id`',"))),
    ];
    for (name, fault) in hostile {
        let mut files = read(&thin("0.2.0"));
        fault(&mut files);
        write(&faulty.path(), &files);
        assert_eq!(codes(&faulty.check().ended(1)), ["R001"], "{name}");
        let (path, old) = (faulty.path(), thin("0.1.0"));
        let path = path.to_str().unwrap();
        for args in [
            vec!["inspect", path],
            vec!["diff", &old, path],
            vec!["keep", path],
            vec!["appup", &old, path],
            vec!["rehearse", path, "--from", &old],
        ] {
            let said = anywhere(&args);
            assert!(said.code == 1 || said.code == 2, "{name} {args:?}: {}", said.stdout);
        }
        assert!(!marker.exists(), "{name}");
    }
}

#[test]
fn a_package_is_shown_without_the_values_of_its_settings() {
    let said = anywhere(&["inspect", &package("0.3.0")]).ended(0);
    let said = said.says(&[
        "urf 0.3.0\n",
        "from 0.1.0, 0.2.0; back to",
        "supervisors urf_sup",
        "processes urf_clock, urf_store",
        "urf: greeting",
        "-setcookie",
    ]);
    assert!(!said.stdout.contains("hello"), "{}", said.stdout);
    let document = anywhere(&["inspect", &package("0.3.0"), "--format", "json"]).ended(0).json();
    assert_eq!(document["format"], 1);
    assert_eq!(document["upgrades_from"], serde_json::json!(["0.1.0", "0.2.0"]));
    assert_eq!(document["has_erts"], true);
    let urf = document["applications"].as_array().unwrap().iter().find(|app| app["name"] == "urf").unwrap();
    assert_eq!(urf["supervisors"], serde_json::json!(["urf_sup"]));
}

#[test]
fn two_packages_differ_in_what_really_changed() {
    let said = anywhere(&["diff", &package("0.1.0"), &package("0.2.0")]).ended(0);
    let said = said.says(&["urf 0.1.0 -> 0.2.0\n", "~ urf_store (process) ", "+ urf_util (module) "]);
    assert!(!said.stdout.contains("urf_sup") && !said.stdout.contains("kernel"), "{}", said.stdout);
    let same = anywhere(&["diff", &package("0.2.0"), &package("0.2.0")]).ended(0);
    same.says(&["no differences"]);
    let document =
        anywhere(&["diff", &package("0.2.0"), &package("0.3.0"), "--format", "json"]).ended(0).json();
    let urf = &document["applications"][0];
    let modules: Vec<_> = urf["modules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["module"].as_str().unwrap(), m["from"].is_null()))
        .collect();
    assert_eq!(modules, [("urf_clock", true), ("urf_store", false), ("urf_sup", false)]);
    assert_eq!(document["settings"]["changed"], serde_json::json!(["urf.greeting"]));
}

#[test]
fn appups_are_explained_and_children_found_only_when_asked() {
    let said = anywhere(&["appup", &package("0.1.0"), &package("0.2.0")]).ended(0);
    said.says(&[
        "urf 0.1.0 -> 0.2.0 (derived from the modules)",
        "{update,urf_store,{advanced,[]},[urf_util]}\n        a `gen_server` that changed: suspended",
        "after `urf_util`, which it calls",
        "{add_module,urf_util}\n        new in this version",
    ]);
    let (old, new) = (package("0.2.0"), package("0.3.0"));
    anywhere(&["appup", &old, &new]).ended(1).says(&["error[A003]", "can't be derived"]);
    anywhere(&["appup", &old, &new, "--init"]).ended(0).says(&[
        "{apply,{supervisor,restart_child,[urf_sup,urf_clock]}}\n        starts the new child `urf_clock`",
        "{apply,{supervisor,terminate_child,[urf_sup,urf_clock]}}",
    ]);
    // in the project, the hand-written one wins
    let home = tempfile::tempdir().unwrap();
    ci(packages(), home.path(), &["appup", &old, &new]).ended(0).says(&["(written: ", "ebin/urf.appup)"]);
}

#[test]
fn kept_packages_are_found_by_version() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    run(dir.path(), &["git", "init", "-q", "project"]);
    let project = dir.path().join("project");
    ci(&project, &home, &["list"]).ended(0).says(&["no packages are kept"]);
    for version in ["0.1.0", "0.2.0", "0.1.0"] {
        ci(&project, &home, &["keep", &package(version), "--commit", "abc"]).ended(0).says(&["kept urf "]);
    }
    let listed = ci(&project, &home, &["list", "--format", "json"]).ended(0).json();
    let versions: Vec<_> =
        listed["packages"].as_array().unwrap().iter().map(|p| p["version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["0.2.0", "0.1.0"]);
    ci(&project, &home, &["list"]).ended(0).says(&["VERSION  RELEASE", "0.2.0    urf"]);
    ci(&project, &home, &["check", "0.2.0", "--from", "0.1.0"]).ended(0).says(&["fit for a hot upgrade"]);
    ci(&project, &home, &["inspect", "0.1.0"]).ended(0);
}

#[test]
fn an_upgrade_is_rehearsed_up_and_down_with_its_state() {
    let (old, new) = (package("0.1.0"), package("0.2.0"));
    let count = "element(2, element(2, urf_store:info())) =:= 1";
    let said = anywhere(&["rehearse", &new, "--from", &old, "--setup", "urf_store:incr()", "--check", count]);
    said.ended(0).says(&[
        "start 0.1.0",
        "upgrade to 0.2.0",
        "back to 0.1.0",
        "urf 0.1.0 -> 0.2.0: fit, and back",
    ]);
    assert_eq!(copies(), [] as [String; 0], "every process of a copy has ended");
}

/// Processes that still run from a copy; tests beside this one have copies of their own, which end as well.
fn copies() -> Vec<String> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let exe = all.filter_map(|entry| fs::read_link(entry.path().join("exe")).ok());
        let ours: Vec<String> =
            exe.map(|exe| exe.display().to_string()).filter(|exe| exe.contains("/ci-r")).collect();
        if ours.is_empty() || std::time::Instant::now() > deadline {
            return ours;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// What no static check can see.
#[test]
fn faults_that_only_show_when_it_runs_are_found_by_a_rehearsal() {
    let compiled = |from: &str, to: &str| -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let source = fs::read_to_string(example("versions/v0.2.0/src/urf_store.erl")).unwrap();
        assert!(source.contains(from), "{source}");
        fs::write(dir.path().join("urf_store.erl"), source.replace(from, to)).unwrap();
        run(dir.path(), &["erlc", "+debug_info", "urf_store.erl"]);
        fs::read(dir.path().join("urf_store.beam")).unwrap()
    };
    let converts = "{ok, #state{count = Count, since = urf_util:now_s()}};";
    let cases: &[(&str, Option<Vec<u8>>, &str)] = &[
        ("raises", Some(compiled(converts, "error({boom, Count});")), "boom"),
        ("wrong shape", Some(compiled(converts, "{ok, {wrong, Count}};")), "urf_store"),
        ("a call that fails", None, "the node restarted and its state is lost"),
    ];
    for (name, beam, expected) in cases {
        let faulty = Faulty::new(|files| match beam {
            Some(beam) => files
                .iter_mut()
                .find(|e| e.0.ends_with("urf-0.2.0/ebin/urf_store.beam"))
                .unwrap()
                .2
                .clone_from(beam),
            None => replace(
                files,
                RELUP,
                "{resume,[urf_store]}",
                "{resume,[urf_store]},{apply,{erlang,error,[boom]}}",
            ),
        });
        assert_eq!(faulty.check().code, 0, "{name}: no static check sees it");
        let old = package("0.1.0");
        let path = faulty.path();
        let args = [
            "rehearse",
            path.to_str().unwrap(),
            "--from",
            &old,
            "--setup",
            "urf_store:incr()",
            "--check",
            "is_tuple(urf_store:info()) andalso urf_store:incr() > 0",
            "--format",
            "json",
        ];
        let said = anywhere(&args).ended(1);
        let document = said.json();
        assert_eq!(document["fit"], false, "{name}");
        let problems = document["problems"].to_string();
        assert!(problems.contains(expected), "{name}: {problems}");
    }
}

#[test]
fn a_version_is_bumped_tagged_and_noted() {
    let dir = tempfile::tempdir().unwrap();
    let (project, home) = (dir.path().join("p"), dir.path().join("home"));
    run(dir.path(), &["sh", example("make-repository.sh").to_str().unwrap(), project.to_str().unwrap()]);
    run(&project, &["git", "checkout", "-q", "v0.3.0"]);
    ci(&project, &home, &["tag"]).ended(1).says(&["version `0.3.0` is tagged already"]);
    ci(&project, &home, &["bump", "--dry-run"])
        .ended(0)
        .says(&["rebar.config: release 0.3.0 -> 0.3.1", "src/urf.app.src: urf 0.3.0 -> 0.3.1"]);
    assert_eq!(run(&project, &["git", "status", "--porcelain"]), "");
    ci(&project, &home, &["bump", "minor"]).ended(0).says(&["release 0.3.0 -> 0.4.0"]);
    let diff = run(&project, &["git", "diff", "--numstat"]);
    assert_eq!(diff, "1\t1\trebar.config\n1\t1\tsrc/urf.app.src\n");
    ci(&project, &home, &["version"]).ended(0).says(&["0.4.0"]);
    ci(&project, &home, &["tag"]).ended(1).says(&["not committed"]);
    run(&project, &["git", "config", "user.name", "t"]);
    run(&project, &["git", "config", "user.email", "t@localhost"]);
    run(&project, &["git", "commit", "-qam", "feat(clock)!: tick\n\nBREAKING CHANGE: wind it up"]);
    ci(&project, &home, &["tag"]).ended(0).says(&["tagged v0.4.0", "git push origin v0.4.0"]);
    assert_eq!(run(&project, &["git", "cat-file", "-t", "v0.4.0"]), "tag\n");
    let notes = ci(&project, &home, &["notes", "0.2.0", "0.4.0"]).ended(0);
    notes.says(&[
        "## 0.4.0\n\n### Breaking changes\n\n- wind it up (",
        "### Features\n\n- **clock**: tick (",
        "### Other changes\n\n- release 0.3.0 (",
    ]);
    ci(&project, &home, &["notes", "9.9.9"]).ended(2).says(&["git fetch --tags"]);
    ci(&project, &home, &["bump", "0.3.9"]).ended(2).says(&["`0.3.9` is not newer than `0.4.0`"]);
}

#[test]
fn an_upgrade_is_checked_against_what_runs_on_the_target() {
    let target = support::target::Target::start();
    fs::create_dir_all(target.release()).unwrap();
    run(&target.release(), &["tar", "-xzf", &package("0.1.0")]);
    assert!(target.script(&["daemon"]).status.success());
    let home = target.path("home").display().to_string();
    let new = package("0.2.0");
    let check =
        || target.ci(packages(), &["release", "check", &new, "--env", "dev"], &[("SLIPWAY_HOME", &home)]);
    check().ended(0).says(&["warning[R016]", "urf 0.1.0 -> 0.2.0: fit for a hot upgrade"]);
    // somebody loads other code by hand, and leaves files of an earlier attempt
    fs::create_dir_all(target.release().join("lib/urf-0.2.0/ebin")).unwrap();
    let other = target.path("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("urf_sup.erl"), "-module(urf_sup).\n-export([other/0]).\nother() -> other.\n")
        .unwrap();
    run(&other, &["erlc", "urf_sup.erl"]);
    target.eval(&format!("code:load_abs(\"{}\").", other.join("urf_sup").display()));
    let said = check();
    assert_eq!(said.code, 1, "{}", said.stdout);
    said.says(&[
        "error[R024]: on `dev`: the loaded code of `urf_sup` is not that",
        "warning[R022]: on `dev`: `lib/urf-0.2.0`",
    ]);
}
