//! The store of images against a real registry (docker-registry with the images of scripts/test-images.sh), one that
//! lies, and hostile archives. When run by root, `an_ordinary_user_gets_the_same` runs all of them again as one.
#![cfg(target_os = "linux")]
// clippy takes the functions that the tests share for production code
#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

#[path = "support/ordinary_user.rs"]
mod ordinary_user;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runners::image::{Image, ImageError, Patience, PullPolicy, Registry as Settings, Store, Told, Wanted};
use runners::sandbox::Sandbox;
use tempfile::TempDir;

#[path = "images/archives.rs"]
mod archives;
#[path = "images/limits.rs"]
mod limits;
#[path = "images/lying.rs"]
mod lying;
#[path = "../../tests/support/registry.rs"]
mod registry;

use lying::{Lie, Lying};
use registry::Registry;

use ordinary_user::same_tests_as_ordinary_user;

/// A store of its own.
struct Place {
    dir: TempDir,
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn sandbox() -> Sandbox {
    Sandbox::with_init(PathBuf::from(env!("CARGO_BIN_EXE_sandbox-init")))
}

/// Quick, so that nobody waits for tests; `stall` is what only a silent registry costs.
fn patience() -> Patience {
    Patience { stall: Duration::from_secs(5), pause: Duration::from_millis(1), attempts: 4 }
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> Store {
        self.store_with(BTreeMap::new())
    }

    fn store_with(&self, registries: BTreeMap<String, Settings>) -> Store {
        Store::open(self.dir.path(), sandbox(), registries).unwrap().with_patience(patience())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(if is_root() { "root" } else { "user" }).join(below)
    }

    /// Nothing is half done, and nothing is left of what failed.
    fn assert_clean(&self, layers: usize) {
        let names = |below: &str| -> Vec<String> {
            let entries = fs::read_dir(self.path(below)).into_iter().flatten();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let left: Vec<String> = names("new").into_iter().filter(|name| !name.starts_with('.')).collect();
        assert!(left.is_empty() && names("new/.trash").is_empty(), "{left:?} {:?}", names("new/.trash"));
        let made = names("layers").into_iter().filter(|name| !name.contains('.')).count();
        assert_eq!(made, layers, "layers");
    }
}

/// What is told, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn tell(&self) -> impl Fn(Told) + Send + Sync + 'static {
        let log = self.0.clone();
        move |told| match told {
            Told::Line(line) => log.lock().unwrap().push(line),
            Told::Warning(line) => log.lock().unwrap().push(format!("WARNING: {line}")),
            Told::Received { .. } => {}
        }
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

fn always(name: &str) -> Wanted<'_> {
    Wanted { name, policies: &[PullPolicy::Always], ..Wanted::default() }
}

async fn get(store: &Store, wanted: &Wanted<'_>) -> Result<Image, ImageError> {
    store.get(wanted, &|_| {}).await
}

fn assert_send<T: Send>(value: T) -> T {
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_with_its_configuration_and_layers() {
    let registry = Registry::with(&["many"]);
    let place = Place::new();
    let store = place.store();
    let name = format!("{}/many", registry.address);
    let wanted = always(&name);
    let image = assert_send(store.get(&wanted, &|_| {})).await.unwrap();
    assert_eq!(image.reference, name);
    assert!(image.digest.starts_with("sha256:"), "{}", image.digest);
    let config = &image.config;
    assert_eq!((config.user.as_str(), config.directory.as_path()), ("app:extra", Path::new("/data/work")));
    assert_eq!(
        (config.entrypoint.len(), config.command.len(), config.ports.as_slice()),
        (1, 3, &[80, 8080][..])
    );
    assert_eq!(config.health.as_ref().unwrap().retries, 4);
    assert_eq!(config.environment[1], ("GREETING".to_owned(), "hello = world".to_owned()));
    assert_eq!(image.layers.len(), 4);
    // the uppermost first
    assert!(image.layers[0].join("entry.sh").is_file() && image.layers[3].join("bin/sh").is_symlink());
    place.assert_clean(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_hold_what_images_hold_as_overlays_want_it() {
    let registry = Registry::with(&["many"]);
    let place = Place::new();
    let store = place.store();
    let image = get(&store, &always(&format!("{}/many", registry.address))).await.unwrap();
    let first = image.layers[2].join("data");
    let second = image.layers[1].join("data");
    let metadata = |path: PathBuf| fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    for name in ["removed", "gone"] {
        let whiteout = metadata(second.join(name));
        assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0, "{name}");
    }
    let mark = if is_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
    for (name, opaque) in [("opaque", true), ("becomes-dir", true), (".", false)] {
        let mut value = [0; 4];
        let found =
            rustix::fs::lgetxattr(second.join(name), mark, &mut value).is_ok_and(|len| &value[..len] == b"y");
        assert_eq!(found, opaque, "{name}");
    }
    assert!(metadata(second.join("becomes-file")).is_file());
    assert_eq!(metadata(first.join("hard")).ino(), metadata(first.join("original")).ino());
    assert_eq!(metadata(first.join("setuid")).mode() & 0o7777, 0o4755);
    assert!(metadata(first.join("fifo")).file_type().is_fifo());
    assert_eq!(fs::read_link(first.join("absolute")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(metadata(first.join("keep")).mtime(), 1_700_000_000);
    assert_eq!(fs::read_to_string(first.join("umlaut-ü")).unwrap(), "ü\n");
    let mut value = [0; 8];
    let len = rustix::fs::lgetxattr(first.join("attribute"), "user.colour", &mut value).unwrap();
    assert_eq!(&value[..len], b"blue");
    // the archives of the upper layers have no entry for it
    for layer in &image.layers[..3] {
        let data = metadata(layer.join("data"));
        assert_eq!((data.mode() & 0o7777, data.mtime()), (0o750, 1_600_000_000), "{layer:?}");
        if is_root() {
            assert_eq!((data.uid(), data.gid()), (1000, 1000), "{layer:?}");
        }
    }
    // device nodes could not be opened in a user namespace
    assert_eq!(fs::symlink_metadata(first.join("null")).is_ok(), is_root());
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_and_zstd_images_have_the_same_layers() {
    let registry = Registry::with(&["many", "deep"]);
    let place = Place::new();
    let store = place.store();
    let mut images = Vec::new();
    for tag in ["latest", "docker", "zstd"] {
        images.push(get(&store, &always(&format!("{}/many:{tag}", registry.address))).await.unwrap());
    }
    assert!(images.iter().all(|image| image.layers == images[0].layers && image.config == images[0].config));
    let deep = get(&store, &always(&format!("{}/deep", registry.address))).await.unwrap();
    assert_eq!(deep.layers.len(), 130);
    assert_eq!(fs::read_to_string(deep.layers[0].join("top")).unwrap(), "128\n");
    // the lowest layer of both is the same
    place.assert_clean(4 + 129);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_gives_the_image_of_the_platform() {
    let registry = Registry::with(&["tiny"]);
    let place = Place::new();
    let (store, name) = (place.store(), format!("{}/tiny", registry.address));
    for (platform, file) in
        [("linux/amd64", "bin"), ("linux/arm64", "etc-of-another-machine"), ("linux/arm", "v7")]
    {
        let platform = platform.parse().unwrap();
        let image = get(&store, &Wanted { platform: Some(&platform), ..always(&name) }).await.unwrap();
        assert!(image.layers[0].join(file).exists(), "{platform}");
    }
    let platform = "linux/s390x".parse().unwrap();
    let error =
        get(&store, &Wanted { platform: Some(&platform), ..always(&name) }).await.unwrap_err().to_string();
    assert!(error.contains("not made for `linux/s390x`, but for `linux/arm64/v8`"), "{error}");
    // a tag of one platform only is used with a warning
    let (log, platform) = (Log::default(), "linux/arm64".parse().unwrap());
    let docker = format!("{name}:docker");
    store.get(&Wanted { platform: Some(&platform), ..always(&docker) }, &log.tell()).await.unwrap();
    assert!(log.text().contains("is made for `linux/amd64`, not for `linux/arm64`"), "{}", log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn pull_policies_say_when_the_registry_is_asked() {
    let registry = Registry::with(&["tiny"]);
    let lying = Lying::before(&registry.address, Lie::None).await;
    let place = Place::new();
    let (store, name) = (place.store(), format!("{}/tiny", lying.address));
    let by = |policies| Wanted { name: &name, policies, ..Wanted::default() };
    use PullPolicy::{Always, IfNotPresent, Never};

    let error = get(&store, &by(&[Never])).await.unwrap_err().to_string();
    assert!(
        error.contains("failed to pull image") && error.contains("specified policies [never]"),
        "{error}"
    );
    assert_eq!(lying.count(""), 0);

    let log = Log::default();
    store.get(&by(&[Never, IfNotPresent]), &log.tell()).await.unwrap();
    for text in [
        "WARNING: Failed to pull image with policy \"never\"",
        "Attempt #2: Trying \"if-not-present\" pull policy",
        "Pulling docker image",
    ] {
        assert!(log.text().contains(text), "{}", log.text());
    }
    let blobs = lying.count("/blobs/");
    assert_eq!(blobs, 2, "a configuration and a layer");

    let (log, before) = (Log::default(), lying.count(""));
    store.get(&by(&[IfNotPresent]), &log.tell()).await.unwrap();
    store.get(&by(&[]), &log.tell()).await.unwrap();
    assert_eq!(lying.count(""), before, "what is here needs no network");
    assert!(log.text().contains("Using locally found image version due to \"if-not-present\" pull policy"));

    get(&store, &by(&[Always])).await.unwrap();
    assert!(lying.count("") > before, "`always` asks");
    assert_eq!(lying.count("/blobs/"), blobs, "and fetches nothing that is here");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_serves_when_the_registry_is_out_of_reach() {
    let registry = Registry::with(&["tiny"]);
    let place = Place::new();
    let lying = Lying::before(&registry.address, Lie::None).await;
    let name = format!("{}/tiny", lying.address);
    get(&place.store(), &always(&name)).await.unwrap();
    lying.stop().await;
    let (store, log) = (place.store(), Log::default());
    let image = store.get(&always(&name), &log.tell()).await.unwrap();
    assert_eq!(image.layers.len(), 1);
    let text = log.text();
    assert!(
        text.contains("can't be reached") && text.contains("using the image that is on this machine"),
        "{text}"
    );
    let other = name.replace("tiny", "other");
    let error = get(&store, &always(&other)).await.unwrap_err();
    assert!(
        matches!(error, ImageError::Policies { last, .. } if matches!(*last, ImageError::Unreachable { .. }))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_passes_is_waited_out() {
    let registry = Registry::with(&["tiny"]);
    for lie in [
        Lie::BreaksOff { after: 100_000, times: 3 },
        Lie::BreaksOff { after: 0, times: 2 },
        Lie::KnowsNoRanges,
        Lie::Flips { times: 1 },
        Lie::TooMany { times: 2 },
        Lie::Fails { times: 2 },
    ] {
        let lying = Lying::before(&registry.address, lie).await;
        let place = Place::new();
        let image = get(&place.store(), &always(&format!("{}/tiny", lying.address))).await;
        assert_eq!(image.unwrap_or_else(|error| panic!("{lie:?}: {error}")).layers.len(), 1);
        place.assert_clean(1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_registry_is_asked_again() {
    let registry = Registry::with(&["tiny"]);
    let lying = Lying::before(&registry.address, Lie::Stalls { after: 50_000, times: 1 }).await;
    let place = Place::new();
    let patience = Patience { stall: Duration::from_millis(700), ..patience() };
    let store = place.store().with_patience(patience);
    get(&store, &always(&format!("{}/tiny", lying.address))).await.unwrap();
    assert!(lying.count("/blobs/") >= 3);
    place.assert_clean(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_stays_is_told_and_leaves_nothing() {
    let registry = Registry::with(&["tiny"]);
    for (lie, expected) in [
        (Lie::BreaksOff { after: 0, times: 1000 }, "fetching layer `sha256:"),
        (Lie::Flips { times: 1000 }, "is damaged: its digest is"),
        (Lie::TooMany { times: 1000 }, "allows no more requests for now (429)"),
        (Lie::Fails { times: 1000 }, "status 500"),
        (Lie::SwapsManifests, "sha256:"),
        (Lie::WantsToken, "log in with `docker login`, or set the variable `DOCKER_AUTH_CONFIG`"),
    ] {
        let lying = Lying::before(&registry.address, lie).await;
        let place = Place::new();
        let error =
            get(&place.store(), &always(&format!("{}/tiny", lying.address))).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{lie:?}: {error}");
        place.assert_clean(0);
    }
    let place = Place::new();
    for name in ["nobody", "tiny:nothing"] {
        let error = get(&place.store(), &always(&format!("{}/{name}", registry.address))).await.unwrap_err();
        assert!(error.to_string().contains("has no image"), "{error}");
    }
    for name in ["", "UPPER", "a b", "tiny@sha256:1234", "../x"] {
        assert!(matches!(get(&place.store(), &always(name)).await, Err(ImageError::Name { .. })), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variable_of_the_pipeline_logs_in() {
    let registry = Registry::with(&["tiny"]);
    let lying = Lying::before(&registry.address, Lie::WantsToken).await;
    let place = Place::new();
    let (store, name) = (place.store(), format!("{}/tiny", lying.address));
    let config = |user: &str| format!(r#"{{"auths": {{"{}": {{"auth": "{user}"}}}}}}"#, lying.address);
    // ann:wrong
    let wrong = config("YW5uOndyb25n");
    let error =
        get(&store, &Wanted { auth_config: Some(&wrong), ..always(&name) }).await.unwrap_err().to_string();
    assert!(error.contains("the credentials are not accepted") && !error.contains("wrong"), "{error}");
    let (right, log) = (config("YW5uOnMzY3JldA=="), Log::default());
    store.get(&Wanted { auth_config: Some(&right), ..always(&name) }, &log.tell()).await.unwrap();
    assert!(
        log.text().contains("Authenticating with credentials from $DOCKER_AUTH_CONFIG"),
        "{}",
        log.text()
    );
    assert!(!log.text().contains("s3cret") && !format!("{store:?}").contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_first_and_never_alone() {
    let registry = Registry::with(&["tiny"]);
    let mirror = Lying::before(&registry.address, Lie::None).await;
    let place = Place::new();
    let settings = |mirror: &str| {
        let settings = Settings { mirror: Some(mirror.to_owned()), ..Settings::default() };
        BTreeMap::from([(registry.address.clone(), settings)])
    };
    let name = format!("{}/tiny", registry.address);
    get(&place.store_with(settings(&mirror.address)), &always(&name)).await.unwrap();
    assert!(mirror.count("/blobs/") > 0);
    let (place, log) = (Place::new(), Log::default());
    let store = place.store_with(settings("127.0.0.1:1"));
    store.get(&always(&name), &log.tell()).await.unwrap();
    assert!(log.text().contains("WARNING: the registry `127.0.0.1:1` can't be reached"), "{}", log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_layer_is_fetched_once_however_many_want_it() {
    let registry = Registry::with(&["many"]);
    let lying = Lying::before(&registry.address, Lie::None).await;
    let place = Place::new();
    let names = ["many", "many:docker", "many", "many:zstd"].map(|name| format!("{}/{name}", lying.address));
    // four stores: as four processes
    let pulls = names.iter().map(|name| async {
        let store = place.store();
        get(&store, &always(name)).await.unwrap().layers
    });
    let layers = futures_util::future::join_all(pulls).await;
    assert!(layers.iter().all(|one| *one == layers[0]));
    // four layers once, and a configuration for each
    assert!(lying.count("/blobs/") <= 4 + names.len(), "{:?}", lying.seen.lock().unwrap());
    place.assert_clean(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_pull_left_is_swept_by_the_next() {
    let registry = Registry::with(&["tiny", "noshell"]);
    let lying = Lying::before(&registry.address, Lie::Stalls { after: 50_000, times: 1000 }).await;
    let place = Place::new();
    let store = place.store();
    let name = format!("{}/tiny", lying.address);
    let wanted = always(&name);
    let (started, mut began) = tokio::sync::mpsc::unbounded_channel();
    let tell = move |told| {
        if matches!(told, Told::Received { .. }) {
            let _ended = started.send(());
        }
    };
    {
        let pull = store.get(&wanted, &tell);
        tokio::select! {
            ended = pull => panic!("{ended:?}"),
            _ = began.recv() => {}
        }
    }
    get(&store, &always(&format!("{}/noshell", registry.address))).await.unwrap();
    place.assert_clean(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_gets_the_same() {
    if !is_root() || std::env::var_os("SLIPWAY_TEST_REGISTRY").is_some() {
        return;
    }
    let registry = Registry::with(&["tiny", "many", "deep", "noshell"]);
    same_tests_as_ordinary_user(&[("SLIPWAY_TEST_REGISTRY", &registry.address)]).await;
}
