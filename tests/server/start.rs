//! Where the server listens, what it says first.

use crate::support::Server;

#[test]
fn the_first_line_names_the_real_port_and_the_server_answers_there() {
    let server = Server::start();
    assert!(!server.address().ends_with(":0"), "{}", server.address());
    let style = server.anonymous().get(server.url("/assets/style.css")).send().unwrap();
    assert_eq!(style.status(), 200);
}

#[test]
fn a_server_that_was_killed_comes_back_at_its_address_with_its_state() {
    let mut server = Server::start();
    let (address, id) = (server.address().to_owned(), server.project("group/app", "file:///nowhere"));
    server.kill9();
    server.restart();
    assert_eq!(server.address(), address);
    assert_eq!(server.number("SELECT id FROM projects WHERE path = 'group/app'"), id);
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let server = Server::start();
    let taken = server.address().strip_prefix("http://").unwrap();
    let home = tempfile::tempdir().unwrap();
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_ci"))
        .args(["server", "--listen", taken, "--data"])
        .arg(home.path().join("data"))
        .env("SLIPWAY_HOME", home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("listening on {taken}")), "{said}");
}
