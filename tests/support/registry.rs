//! A real registry with the images of `scripts/test-images.sh`, on loopback.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ends with this value.
pub(crate) struct Registry {
    /// Host and port.
    pub(crate) address: String,
    _server: Option<Child>,
}

impl Registry {
    /// With these images, built now if they never were. An address in `SLIPWAY_TEST_REGISTRY` is used instead.
    pub(crate) fn with(names: &[&str]) -> Self {
        if let Ok(address) = std::env::var("SLIPWAY_TEST_REGISTRY") {
            return Self { address, _server: None };
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = ["scripts/test-images.sh", "../scripts/test-images.sh"].map(|path| root.join(path));
        let script = script.iter().find(|path| path.exists()).unwrap();
        let mut server = Command::new(script)
            .arg("--serve")
            .args(names)
            // it ends with its input, however this process dies
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        assert!(
            !address.is_empty(),
            "the registry didn't start: scripts/setup.sh test installs what it needs"
        );
        Self { address, _server: Some(server) }
    }

    /// Full name of one of its images.
    #[allow(dead_code, reason = "not every test crate asks so")]
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(server) = &mut self._server {
            drop(server.stdin.take());
            let _ended = server.wait();
        }
    }
}
