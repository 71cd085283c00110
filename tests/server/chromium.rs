//! Pages in a real browser: Chromium, spoken to through its pipe (the DevTools protocol), so that no other program is
//! needed. Without Chromium (`apt-get install chromium`) these tests fail.

use crate::demo;
use crate::pages::addresses;
use crate::support::{PASSWORD, Repository, Server, eventually};
use command_fds::{CommandFdExt, FdMapping};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub(crate) struct Browser {
    child: Child,
    write: File,
    read: BufReader<File>,
    last: u64,
    _home: TempDir,
}

/// A tab.
pub(crate) struct Tab(String);

impl Browser {
    pub(crate) fn start() -> Browser {
        let home = tempfile::tempdir().unwrap();
        let (theirs_in, ours_out) = std::io::pipe().unwrap();
        let (ours_in, theirs_out) = std::io::pipe().unwrap();
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--window-size=1280,2400",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--no-first-run",
        ]);
        command.arg(format!("--user-data-dir={}", home.path().display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mappings = vec![
            FdMapping { parent_fd: theirs_in.into(), child_fd: 3 },
            FdMapping { parent_fd: theirs_out.into(), child_fd: 4 },
        ];
        command.fd_mappings(mappings).unwrap();
        let child = command.spawn().expect("Chromium is installed: apt-get install chromium");
        // the command holds their ends of the pipes
        drop(command);
        let (write, read) = (std::os::fd::OwnedFd::from(ours_out), std::os::fd::OwnedFd::from(ours_in));
        Browser { child, write: write.into(), read: BufReader::new(read.into()), last: 0, _home: home }
    }

    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, params: Value, tab: Option<&Tab>) -> Value {
        let answer = self.ask(method, params, tab);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    fn ask(&mut self, method: &str, params: Value, tab: Option<&Tab>) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if let Some(Tab(session)) = tab {
            message["sessionId"] = json!(session);
        }
        self.write.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut text = Vec::new();
            self.read.read_until(0, &mut text).unwrap();
            text.pop();
            let answer: Value = serde_json::from_slice(&text).expect("the browser lives");
            if answer["id"] == self.last {
                return answer;
            }
        }
    }

    pub(crate) fn tab(&mut self, address: &str) -> Tab {
        let target = self.call("Target.createTarget", json!({ "url": address, "newWindow": true }), None);
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let tab =
            Tab(self.call("Target.attachToTarget", attach, None)["sessionId"].as_str().unwrap().to_owned());
        self.ready(&tab);
        tab
    }

    /// What an expression in the page is.
    #[track_caller]
    pub(crate) fn eval(&mut self, tab: &Tab, script: &str) -> Value {
        let params = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params, Some(tab));
        assert!(answer.get("exceptionDetails").is_none(), "{script}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true; between two pages there is none that could be asked.
    #[track_caller]
    pub(crate) fn until(&mut self, tab: &Tab, script: &str) {
        eventually(script, || {
            let params = json!({ "expression": script, "returnByValue": true });
            let answer = self.ask("Runtime.evaluate", params, Some(tab));
            (answer["result"]["result"]["value"] == true).then_some(())
        });
    }

    #[track_caller]
    pub(crate) fn ready(&mut self, tab: &Tab) {
        self.until(tab, "document.readyState === 'complete' && location.protocol !== 'about:'");
    }

    #[track_caller]
    pub(crate) fn go(&mut self, tab: &Tab, address: &str) {
        self.call("Page.navigate", json!({ "url": address }), Some(tab));
        self.ready(tab);
    }

    pub(crate) fn sign_in(&mut self, server: &Server) -> Tab {
        let tab = self.tab(&server.url("/"));
        self.until(&tab, "location.pathname === '/login'");
        self.ready(&tab);
        let fill = format!(
            "document.getElementById('name').value = 'admin'; \
             document.getElementById('password').value = {}; document.querySelector('main button').click()",
            json!(PASSWORD)
        );
        self.eval(&tab, &fill);
        self.until(&tab, "location.pathname === '/' && document.readyState === 'complete'");
        tab
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_tabs_see_a_pipeline_begin_and_end() {
    let server = Server::start();
    let repository = Repository::with(&[(".gitlab-ci.yml", "build:\n  script: echo hello\n")]);
    let project = server.project("shop/app", &repository.url());
    let mut browser = Browser::start();
    let list = browser.sign_in(&server);
    browser.go(&list, &server.url("/projects/shop%2Fapp"));
    browser.until(&list, "document.querySelector('#pipelines .empty') !== null");
    let asked = server.client().post(server.url(&format!("/projects/{project}/run"))).body("ref=main");
    let asked = asked.header("content-type", "application/x-www-form-urlencoded");
    let page = asked.send().unwrap().headers()["location"].to_str().unwrap().to_owned();
    // nobody has loaded the list again
    browser.until(&list, "document.querySelector('#pipelines .row .title')?.textContent === 'first'");
    let other = browser.tab(&server.url(&page));
    browser.until(&other, "document.querySelector('.job .name')?.textContent === 'build'");
    browser.eval(&other, "window.confirm = () => true; document.querySelector('[data-confirm]').click()");
    browser.until(&other, "document.querySelector('.head .status')?.textContent.trim() === 'canceled'");
    browser.until(&list, "document.querySelector('#pipelines .row .lead .is-canceled') !== null");
}

#[test]
fn a_log_of_a_million_lines_is_at_hand() {
    let server = Server::start();
    let demo = demo::fill(&server);
    demo::long_log(&server, demo.broken, 1_000_000);
    let mut browser = Browser::start();
    let tab = browser.sign_in(&server);
    browser.go(&tab, &server.url(&format!("/projects/{}/jobs/{}", demo.project, demo.broken)));
    let line = |number: u64| {
        format!(
            "document.querySelector('.line[data-line=\"{number}\"] .text')?.textContent.includes('of 1000000') === true"
        )
    };
    browser.until(&tab, &line(1));
    browser.until(&tab, "document.querySelector('.log .foot').textContent.startsWith('1,000,000 lines')");
    browser.eval(&tab, "document.querySelector('[data-log-end]').click()");
    browser.until(&tab, &line(1_000_000));
    browser.eval(&tab, "location.hash = '#L500000'");
    browser.until(&tab, &line(500_000));
    browser.until(&tab, "document.querySelector('.line.linked').dataset.line === '500000'");
    let rows = browser.eval(&tab, "document.querySelectorAll('.log .line').length").as_u64().unwrap();
    assert!(rows < 200, "{rows} rows are in the page");
    // on a phone lines are wrapped, and the last ones fill the view
    let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true });
    browser.call("Emulation.setDeviceMetricsOverride", phone, Some(&tab));
    browser.eval(&tab, "location.hash = ''");
    browser.go(&tab, &server.url(&format!("/projects/{}/jobs/{}?phone", demo.project, demo.broken)));
    browser.until(&tab, &line(1));
    browser.eval(&tab, "document.querySelector('[data-log-end]').click()");
    browser.until(&tab, &line(1_000_000));
    let filled = "(() => { const all = [...document.querySelectorAll('.line')], view = document.querySelector('.view'); \
                  const high = all.reduce((sum, el) => sum + el.offsetHeight, 0); const last = all.at(-1); \
                  return last.dataset.line === '1000000' && last.offsetHeight > 20 && high <= view.clientHeight \
                  && high > view.clientHeight - 100; })()";
    browser.until(&tab, filled);
    let search = "(() => { const box = document.querySelector('[data-search]'); box.value = 'MODULE_500 '; \
                  box.dispatchEvent(new Event('input')); })()";
    browser.eval(&tab, search);
    browser.until(&tab, "/^\\d+ of 1,024/.test(document.querySelector('.hits').textContent)");
    browser.until(&tab, "document.querySelector('.line.now .text mark')?.textContent === 'module_500 '");
}

#[test]
fn a_log_goes_on_where_the_line_broke_off() {
    let mut server = Server::start();
    let demo = demo::fill(&server);
    let log = server.data().join(format!("logs/{}.log", demo.job));
    std::fs::write(&log, "").unwrap();
    let add = |from: u64, to: u64| {
        let text: String = (from..=to).map(|line| format!("line {line}\n")).collect();
        File::options().append(true).open(&log).unwrap().write_all(text.as_bytes()).unwrap();
    };
    add(1, 10);
    let mut browser = Browser::start();
    let tab = browser.sign_in(&server);
    browser.go(&tab, &server.url(&format!("/projects/{}/jobs/{}", demo.project, demo.job)));
    let shown = |to: u64| {
        let lines: Vec<String> = (1..=to).map(|line| format!("line {line}")).collect();
        format!(
            "JSON.stringify([...document.querySelectorAll('.line .text')].map((el) => el.textContent)) === {}",
            json!(json!(lines).to_string())
        )
    };
    browser.until(&tab, &shown(10));
    add(11, 14);
    browser.until(&tab, &shown(14));
    server.kill9();
    add(15, 19);
    server.execute(&format!("UPDATE pipelines SET status = 'failed' WHERE id = {}", demo.running));
    server.restart();
    browser.until(&tab, &shown(19));
}

#[test]
fn no_page_is_wider_than_a_phone() {
    let server = Server::start();
    let demo = demo::fill(&server);
    let many = demo::many_jobs(&server, demo.project);
    let mut all = addresses(&demo);
    all.extend(
        ["stages", "needs", "timing"]
            .map(|view| format!("/projects/{}/pipelines/{many}?view={view}", demo.project)),
    );
    let mut browser = Browser::start();
    let tab = browser.sign_in(&server);
    let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true });
    browser.call("Emulation.setDeviceMetricsOverride", phone, Some(&tab));
    for address in all {
        browser.go(&tab, &server.url(&address));
        let wider = "document.querySelectorAll('main details').forEach((el) => { el.open = true; }); \
                     document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.eval(&tab, wider), 0, "{address}");
    }
}
