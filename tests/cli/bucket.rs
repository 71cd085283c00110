//! Caches in a bucket: a small server that speaks as much of S3 as is needed.

use crate::tree::{Tree, said};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const SECRET: &str = "bucket-s3cr3t-key";
const YAML: &str = "
j:
  cache: {key: k, paths: [c]}
  script:
    - mkdir -p c; echo again >>c/count; cat c/count | wc -l
";

/// How the bucket behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    Refuses,
    HangsUp,
    Truncates,
}

/// Objects by path, and what is wrong with the requests so far.
struct Bucket {
    address: String,
    objects: Mutex<HashMap<String, Vec<u8>>>,
    mood: Mutex<Mood>,
    wrong: Mutex<Vec<String>>,
}

impl Bucket {
    fn start() -> Arc<Bucket> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bucket = Arc::new(Bucket {
            address: format!("http://{}", listener.local_addr().unwrap()),
            objects: Mutex::default(),
            mood: Mutex::new(Mood::Good),
            wrong: Mutex::default(),
        });
        let shared = bucket.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let bucket = shared.clone();
                std::thread::spawn(move || while bucket.answer(&stream).is_some() {});
            }
        });
        bucket
    }

    /// Answers one request; none: the connection has ended.
    fn answer(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (mut length, mut signed) = (0, false);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "authorization" => signed = value.starts_with("AWS4-HMAC-SHA256 Credential=key-id/"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if !signed {
            self.wrong.lock().unwrap().push(format!("{method} {path} is not signed"));
        }
        let mood = *self.mood.lock().unwrap();
        if mood == Mood::HangsUp {
            return None;
        }
        let (status, content) = self.reply(&method, &path, body, mood);
        let announced = content.len() + if mood == Mood::Truncates { 10 } else { 0 };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {announced}\r\nETag: \"x\"\r\n\
             Last-Modified: Fri, 01 Jan 2100 00:00:00 GMT\r\n\r\n"
        );
        let mut out = stream;
        out.write_all(head.as_bytes()).ok()?;
        out.write_all(&content).ok()?;
        (mood != Mood::Truncates).then_some(())
    }

    fn reply(&self, method: &str, path: &str, body: Vec<u8>, mood: Mood) -> (&'static str, Vec<u8>) {
        let mut objects = self.objects.lock().unwrap();
        match (method, objects.get(path)) {
            _ if mood == Mood::Refuses => {
                ("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>".to_vec())
            }
            ("PUT", _) => {
                objects.insert(path.to_owned(), body);
                ("200 OK", Vec::new())
            }
            ("GET", Some(content)) => ("200 OK", content.clone()),
            ("GET", None) => ("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
            _ => {
                self.wrong.lock().unwrap().push(format!("{method} {path} is not known here"));
                ("400 Bad Request", Vec::new())
            }
        }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

/// A project with that bucket, and one run on a machine of that name.
fn run(tree: &Tree, machine: &str) -> (crate::tree::Said, String) {
    let mut ci = tree.ci(&["run"]);
    ci.env("SLIPWAY_HOME", tree.home().join(machine));
    ci.env("AWS_ACCESS_KEY_ID", "key-id")
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env_remove("AWS_SESSION_TOKEN");
    let said = said(&mut ci);
    let text = said.stdout.clone();
    (said, text)
}

fn project(bucket: &Bucket) -> Tree {
    let settings =
        format!("cache: {{s3: {{bucket: caches, endpoint: '{}', prefix: team}}}}\n", bucket.address);
    Tree::with(&[(".gitlab-ci.yml", YAML), (".ci/settings.yml", &settings)])
}

#[test]
fn machines_share_their_caches() {
    let bucket = Bucket::start();
    let tree = project(&bucket);
    let (first, text) = run(&tree, "one");
    assert!(
        first.code == 0 && text.contains("No cache for k-protected") && text.contains("in the bucket"),
        "{first}"
    );
    let keys: Vec<String> = bucket.objects.lock().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["/caches/team/project/local/app/k-protected.tar.zst"]);
    let (second, text) = run(&tree, "two");
    assert!(second.code == 0 && text.contains("Fetched cache k-protected from the bucket"), "{second}");
    assert!(text.contains("| 2\n"), "{second}");
    assert_eq!(*bucket.wrong.lock().unwrap(), Vec::<String>::new());
    assert!(tree.files_with(SECRET).is_empty());
}

#[test]
fn a_bad_bucket_fails_no_job() {
    let bucket = Bucket::start();
    let tree = project(&bucket);
    run(&tree, "one");
    for mood in [Mood::Refuses, Mood::HangsUp, Mood::Truncates] {
        bucket.set(mood);
        let (said, text) = run(&tree, "one");
        assert!(said.code == 0 && text.contains("WARNING"), "{said}");
        assert!(text.contains("Restored cache k-protected"), "what is here is used: {said}");
        assert!(!said.contains(SECRET));
    }
    assert_eq!(tree.files_with(SECRET), Vec::<std::path::PathBuf>::new());
}

#[test]
fn without_credentials_the_bucket_is_left_out() {
    let tree = project(&Bucket::start());
    let mut ci = tree.ci(&["run"]);
    ci.env_remove("AWS_ACCESS_KEY_ID").env("AWS_SHARED_CREDENTIALS_FILE", "/no/where");
    let said = said(&mut ci);
    assert!(said.code == 0 && said.contains("set `AWS_ACCESS_KEY_ID`"), "{said}");
}
