//! What stays of the images: removal, limits, a full disk.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use runners::image::{ImageError, Limits, Store};

use super::{Place, Registry, always, get, is_root, sandbox};

#[tokio::test(flavor = "multi_thread")]
async fn removing_an_image_leaves_what_others_need() {
    let registry = Registry::with(&["tiny", "many"]);
    let place = Place::new();
    let store = place.store();
    let names = ["tiny", "many"].map(|name| format!("{}/{name}", registry.address));
    for name in &names {
        get(&store, &always(name)).await.unwrap();
    }
    let both = store.bytes().unwrap();
    assert!(!store.remove("nobody").await.unwrap());
    assert!(store.remove(&names[1]).await.unwrap());
    place.assert_clean(1);
    assert!(store.bytes().unwrap() < both);
    assert_eq!(store.list().unwrap().len(), 1);
    assert!(store.remove(&format!("{}:latest", names[0])).await.unwrap());
    place.assert_clean(0);
    assert_eq!(store.bytes().unwrap(), 0);
    // and it comes again
    get(&store, &always(&names[1])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_removed_while_another_works_with_images() {
    let registry = Registry::with(&["tiny"]);
    let place = Place::new();
    let (store, other) = (place.store(), place.store());
    let name = format!("{}/tiny", registry.address);
    get(&store, &always(&name)).await.unwrap();
    let age = Limits { age: Some(Duration::ZERO), bytes: None };
    assert!(matches!(store.remove(&name).await, Err(ImageError::Busy)));
    assert!(matches!(store.collect(age, false).await, Err(ImageError::Busy)));
    assert_eq!(store.list().unwrap().len(), 1);
    drop(other);
    // a process that another test is just starting may hold a copy of its lock, until it executes
    let removed = loop {
        match store.remove(&name).await {
            Err(ImageError::Busy) => tokio::task::yield_now().await,
            removed => break removed.unwrap(),
        }
    };
    assert!(removed);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_take_what_was_used_longest_ago() {
    let registry = Registry::with(&["tiny", "many", "noshell"]);
    let place = Place::new();
    let store = place.store();
    let names = ["noshell", "many", "tiny"].map(|name| format!("{}/{name}", registry.address));
    for name in &names {
        get(&store, &always(name)).await.unwrap();
    }
    let total = store.bytes().unwrap();
    let by_bytes = |bytes| Limits { bytes: Some(bytes), age: None };
    assert!(store.collect(by_bytes(total), false).await.unwrap().images.is_empty());
    let would = store.collect(by_bytes(total - 1), true).await.unwrap();
    assert_eq!(would.images, [format!("{}:latest", names[0])]);
    assert!(would.bytes > 0);
    assert_eq!(store.list().unwrap().len(), 3, "a dry run removes nothing");
    assert_eq!(store.collect(by_bytes(total - 1), false).await.unwrap(), would);
    assert_eq!(store.bytes().unwrap(), total - would.bytes);
    // `many` stands on the layer of `tiny`, which stays
    let tiny = get(&store, &always(&names[2])).await.unwrap();
    store.collect(by_bytes(total / 2), false).await.unwrap();
    assert!(tiny.layers[0].join("bin/sh").is_symlink());
    let long = Limits { age: Some(Duration::from_secs(3600)), bytes: None };
    assert!(store.collect(long, false).await.unwrap().images.is_empty());
    store.collect(by_bytes(0), false).await.unwrap();
    place.assert_clean(0);
}

/// A small file system, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Self {
        std::fs::create_dir(path).unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path).status();
        assert!(status.unwrap().success());
        Self(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_nothing_is_half_done() {
    // only root can make a small disk
    if !is_root() {
        return;
    }
    let registry = Registry::with(&["tiny", "deep"]);
    let place = Place::new();
    let small = Small::mount(&place.dir.path().join("small"));
    let store = Store::open(&small.0, sandbox(), Default::default()).unwrap();
    for name in ["tiny", "deep"] {
        let error =
            get(&store, &always(&format!("{}/{name}", registry.address))).await.unwrap_err().to_string();
        assert!(error.contains("No space left on device"), "{error}");
    }
    assert!(store.list().unwrap().is_empty());
    let left = std::fs::read_dir(small.0.join("root/layers")).unwrap();
    assert_eq!(left.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(), 0);
    drop(store);
}
