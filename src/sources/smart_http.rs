//! Fetching over http and https by git's smart protocol, version 0.
//!
//! libgit2 can do it as well, but built with https it has OpenSSL read the machine's certificates at the start of every
//! command, which takes longer than most commands. Here the client is made when something is really fetched.

use super::credentials;
use super::fetch::{Listed, REQUESTS};
use super::mirror::Refusal;
use super::pkt_line::{self, Packet, Packets};
use super::reach::Reach;
use super::refspecs::{self, Wish};
use git2::{Config, Oid, Reference, Repository};
use pipelines::request::FetchError;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Proxy, StatusCode, Url};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::time::Duration;

/// For a connection, for the beginning of an answer, and between two pieces of it.
const PATIENCE: Duration = Duration::from_secs(60);
const REDIRECTS: usize = 5;
/// Of a server's list of refs.
const MAX_LIST_BYTES: u64 = 256 * 1024 * 1024;
/// Of what one fetch brings.
const MAX_PACK_BYTES: usize = 4 * 1024 * 1024 * 1024;
/// So many commits that are here already are named at most; more would not make the answer much smaller.
const MAX_HAVES: usize = 10_000;

const LIST: &str = "/info/refs?service=git-upload-pack";
const LIST_TYPE: &str = "application/x-git-upload-pack-advertisement";
const REQUEST_TYPE: &str = "application/x-git-upload-pack-request";
const RESULT_TYPE: &str = "application/x-git-upload-pack-result";
/// Some servers answer only to programs that call themselves git.
const AGENT: &str = concat!("git/2.0 (slipway ", env!("CARGO_PKG_VERSION"), ")");

/// Fetches over http in one command.
#[derive(Default)]
pub(super) struct SmartHttp {
    client: OnceCell<Client>,
    /// User and password that are given when the server asks, before any other.
    login: Option<(String, String)>,
    /// Also the refs of merge requests?
    requests: bool,
    reach: Reach,
}

/// Is it an address for [`SmartHttp::fetch`]?
pub(super) fn is_http(url: &str) -> bool {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

impl SmartHttp {
    /// With credentials of its own, and merge requests' refs.
    pub(super) fn for_server(login: Option<(String, String)>, reach: Reach) -> SmartHttp {
        SmartHttp { login, reach, requests: true, ..SmartHttp::default() }
    }

    /// Brings all branches, tags and the HEAD of a bare repository up to date.
    pub(super) fn fetch(&self, url: &str, repository: &Repository) -> Result<(), Refusal> {
        let (remote, list) = self.ask(url)?;
        let wants: BTreeSet<Oid> = list.refs.values().copied().collect();
        let odb = repository.odb().map_err(|e| local(&e))?;
        let wants: Vec<Oid> = wants.into_iter().filter(|oid| !odb.exists(*oid)).collect();
        self.objects(&remote, &list, &wants, repository)?;
        list.apply(repository).map_err(|e| local(&e))
    }

    /// What is there.
    pub(super) fn list(&self, url: &str) -> Result<Listed, Refusal> {
        let (_, list) = self.ask(url)?;
        Ok(Listed::of(list.head.as_deref(), list.refs.into_iter()))
    }

    fn ask(&self, url: &str) -> Result<(Remote<'_>, List), Refusal> {
        let mut remote = Remote::new(self.client()?, url)?;
        remote.stored.clone_from(&self.login);
        let address = Url::parse(&remote.base).map_err(|e| other(format!("it is no address: {e}")))?;
        self.reach.check(&address).map_err(no_access)?;
        let list = List { requests: self.requests, ..List::default() }.read(remote.list()?)?;
        Ok((remote, list))
    }

    /// Brings what refspecs name.
    pub(super) fn fetch_refs(&self, repository: &Repository, wish: &Wish<'_>) -> Result<(), Refusal> {
        let mut remote = Remote::new(self.client()?, wish.url)?;
        remote.stored.clone_from(&wish.login);
        let list = List::default().read(remote.list()?)?;
        let all = list.refs.iter().chain(&list.others).map(|(name, id)| (name.clone(), *id)).collect();
        let targets = refspecs::targets(wish.refspecs, &all);
        let odb = repository.odb().map_err(|e| local(&e))?;
        let mut wants: BTreeSet<Oid> = targets.values().copied().collect();
        let any = ["allow-reachable-sha1-in-want", "allow-tip-sha1-in-want"];
        wants.extend(wish.commit.filter(|_| any.iter().any(|capability| list.offers(capability))));
        let wants: Vec<Oid> = wants.into_iter().filter(|oid| !odb.exists(*oid)).collect();
        self.objects(&remote, &list, &wants, repository)?;
        refspecs::set(repository, &targets).map_err(|e| local(&e))
    }

    /// Brings objects that are not here.
    fn objects(
        &self,
        remote: &Remote<'_>,
        list: &List,
        wants: &[Oid],
        repository: &Repository,
    ) -> Result<(), Refusal> {
        if wants.is_empty() {
            return Ok(());
        }
        list.check_capabilities()?;
        let odb = repository.odb().map_err(|e| local(&e))?;
        let haves = tips(repository).map_err(|e| local(&e))?;
        let answer = remote.pack(list.request(wants, &haves))?;
        let mut pack = odb.packwriter().map_err(|e| local(&e))?;
        unpack(answer, &mut pack)?;
        pack.commit()
            .map(|_| ())
            .map_err(|e| other(format!("the server sent a broken pack: {}", e.message())))
    }

    fn client(&self) -> Result<&Client, Refusal> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // the timeout is for each wait, not for all of a long transfer
        let reach = self.reach.clone();
        let mut builder = Client::builder()
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .redirect(Policy::custom(move |attempt| redirect(attempt, &reach)))
            .dns_resolver(std::sync::Arc::new(self.reach.clone()))
            .user_agent(AGENT);
        let configured = Config::open_default().and_then(|config| config.get_string("http.proxy"));
        if let Some(proxy) = configured.ok().filter(|proxy| !proxy.is_empty()) {
            builder = builder.proxy(Proxy::all(proxy).map_err(|e| failure(&e))?);
        }
        let client = builder.build().map_err(|e| failure(&e))?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// Follows a few redirects, none that gives encryption up.
fn redirect(attempt: Attempt<'_>, reach: &Reach) -> reqwest::redirect::Action {
    if let Err(refusal) = reach.check(attempt.url()) {
        return attempt.error(refusal);
    }
    let was_secret = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS {
        attempt.error(format!("more than {REDIRECTS} redirects"))
    } else if was_secret && attempt.url().scheme() != "https" {
        attempt.error("the server leads from https to http, which is not followed")
    } else {
        attempt.follow()
    }
}

/// A repository on a server.
struct Remote<'c> {
    client: &'c Client,
    /// Its address, without a user; after a redirect the new one.
    base: String,
    user: Option<String>,
    login: Option<(String, String)>,
    /// What is offered when the server asks.
    stored: Option<(String, String)>,
}

impl<'c> Remote<'c> {
    fn new(client: &'c Client, url: &str) -> Result<Remote<'c>, Refusal> {
        let mut url = Url::parse(url).map_err(|e| other(format!("it is no address: {e}")))?;
        let user = Some(url.username().to_owned()).filter(|user| !user.is_empty());
        // the client would send it before anybody has asked
        let _ = url.set_username("");
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Remote { client, base, user, login: None, stored: None })
    }

    /// The answer that begins with the list of refs. Credentials are looked for when the server wants some.
    fn list(&mut self) -> Result<Response, Refusal> {
        let mut response = self.ask_for_list()?;
        if response.status() == StatusCode::UNAUTHORIZED && self.login.is_none() {
            self.login = Some(self.credential(&response)?);
            response = self.ask_for_list()?;
        }
        accepted(response, LIST_TYPE)
    }

    fn ask_for_list(&mut self) -> Result<Response, Refusal> {
        let request = self.client.get(format!("{}{LIST}", self.base)).header(ACCEPT, LIST_TYPE);
        let response = self.with_login(request).send().map_err(|e| failure(&e))?;
        if let Some(base) = response.url().as_str().strip_suffix(LIST) {
            base.clone_into(&mut self.base);
        }
        Ok(response)
    }

    fn credential(&self, response: &Response) -> Result<(String, String), Refusal> {
        let ways = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let ways: Vec<&str> = ways.filter_map(|way| way.to_str().ok()).collect();
        if !ways.iter().any(|way| way.to_ascii_lowercase().contains("basic")) {
            let names: Vec<&str> = ways.iter().filter_map(|way| way.split(' ').next()).collect();
            let offer = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            return Err(no_access(format!(
                "`ci` can only log in by `Basic`; the server offers {}",
                plain(&offer)
            )));
        }
        if let Some(stored) = &self.stored {
            return Ok(stored.clone());
        }
        credentials::login(&self.base, self.user.as_deref())
            .ok_or_else(|| no_access("git's credential helpers gave no access".to_owned()))
    }

    fn with_login(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    /// The answer that holds the wanted objects.
    fn pack(&self, request: Vec<u8>) -> Result<Response, Refusal> {
        let post = self.client.post(format!("{}/git-upload-pack", self.base));
        let post = post.header(CONTENT_TYPE, REQUEST_TYPE).header(ACCEPT, RESULT_TYPE).body(request);
        accepted(self.with_login(post).send().map_err(|e| failure(&e))?, RESULT_TYPE)
    }
}

fn accepted(response: Response, content_type: &str) -> Result<Response, Refusal> {
    let status = response.status();
    let said = || format!("the server answered with HTTP code `{}`", status.as_u16());
    match status.as_u16() {
        401 => {
            return Err(no_access("the server did not take what git's credential helpers gave".to_owned()));
        }
        403 | 404 => return Err(no_access(said())),
        _ if !status.is_success() => return Err(other(said())),
        _ => {}
    }
    let given = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match given {
        Some(given) if given == content_type => Ok(response),
        _ => {
            Err(no_access("no git repository is served there, or only by the old `dumb` protocol".to_owned()))
        }
    }
}

/// What a server has.
#[derive(Debug, Default)]
struct List {
    /// Branches and tags by full name.
    refs: BTreeMap<String, Oid>,
    /// Refs of other kinds: merge requests, pipelines.
    others: BTreeMap<String, Oid>,
    /// Full name of the branch that HEAD is.
    head: Option<String>,
    capabilities: Vec<String>,
    /// Are merge requests' refs taken as well?
    requests: bool,
}

impl List {
    fn read(self, from: impl Read) -> Result<List, Refusal> {
        let mut packets = Packets::new(from.take(MAX_LIST_BYTES));
        let mut list = self;
        let mut head = None;
        let mut flushes = 0;
        // the first section says only which service it is
        while flushes < 2 {
            match packets.next().map_err(|e| broken(&e))? {
                Packet::Flush => flushes += 1,
                Packet::End => return Err(broken(&std::io::ErrorKind::UnexpectedEof.into())),
                Packet::Line(line) if flushes == 0 && line.starts_with(b"#") => {}
                Packet::Line(line) => {
                    // a server that does not say the service has no first section
                    flushes = 1;
                    list.line(line, &mut head)?;
                }
            }
        }
        let named = list.capabilities.iter().find_map(|c| c.strip_prefix("symref=HEAD:"));
        list.head = named.map(str::to_owned).or_else(|| {
            let is_it = |name: &&str| list.refs.get(*name).copied() == head && head.is_some();
            let usual = ["refs/heads/main", "refs/heads/master"].into_iter().find(is_it);
            usual.or_else(|| list.refs.keys().map(String::as_str).find(is_it)).map(str::to_owned)
        });
        Ok(list)
    }

    /// `<id> <name>`, on the first line with the capabilities behind a zero byte.
    fn line(&mut self, line: &[u8], head: &mut Option<Oid>) -> Result<(), Refusal> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches('\n');
        let (text, capabilities) = text.split_once('\0').unwrap_or((text, ""));
        self.capabilities.extend(capabilities.split(' ').map(str::to_owned));
        if self.capabilities.iter().any(|c| c == "object-format=sha256") {
            return Err(other("its object ids are SHA-256, which `ci` does not read".to_owned()));
        }
        let (id, name) = text.split_once(' ').unwrap_or((text, ""));
        match id {
            "ERR" => return Err(no_access(format!("the server says: {}", plain(name)))),
            "shallow" => return Err(other("it is a shallow clone: its history has a hole".to_owned())),
            _ => {}
        }
        let id = Oid::from_str(id).map_err(|_| other("the server's list of refs is broken".to_owned()))?;
        if name == "HEAD" {
            *head = Some(id);
        }
        let ours = self.takes(name);
        // tags come a second time, as the commit that they mean: `refs/tags/v1^{}`
        if Reference::is_valid_name(name) {
            let refs = if ours { &mut self.refs } else { &mut self.others };
            refs.insert(name.to_owned(), id);
        }
        Ok(())
    }

    fn takes(&self, name: &str) -> bool {
        let request = || self.requests && REQUESTS.iter().any(|prefix| name.starts_with(prefix));
        name.starts_with("refs/heads/") || name.starts_with("refs/tags/") || request()
    }

    fn offers(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|c| c == capability)
    }

    fn check_capabilities(&self) -> Result<(), Refusal> {
        match self.offers("side-band-64k") {
            true => Ok(()),
            false => Err(other("the server's git is too old: it does not know `side-band-64k`".to_owned())),
        }
    }

    /// The body that asks for objects.
    fn request(&self, wants: &[Oid], haves: &BTreeSet<Oid>) -> Vec<u8> {
        let mut capabilities = " side-band-64k".to_owned();
        for wished in ["ofs-delta", "no-progress"] {
            if self.offers(wished) {
                capabilities = format!("{capabilities} {wished}");
            }
        }
        let mut body = Vec::new();
        for (index, want) in wants.iter().enumerate() {
            let capabilities = if index == 0 { capabilities.as_str() } else { "" };
            pkt_line::write(&format!("want {want}{capabilities}\n"), &mut body);
        }
        body.extend_from_slice(b"0000");
        for have in haves.iter().take(MAX_HAVES) {
            pkt_line::write(&format!("have {have}\n"), &mut body);
        }
        pkt_line::write("done\n", &mut body);
        body
    }

    /// Makes the repository's refs these.
    fn apply(&self, repository: &Repository) -> Result<(), git2::Error> {
        let mut known = BTreeMap::new();
        for reference in repository.references()? {
            let mut reference = reference?;
            let Ok(name) = reference.name().map(str::to_owned) else { continue };
            if self.refs.contains_key(&name) {
                known.insert(name, reference.target());
            } else if self.takes(&name) {
                // before new ones are written: `a` may have become `a/b`
                reference.delete()?;
            }
        }
        for (name, id) in &self.refs {
            if known.get(name) != Some(&Some(*id)) {
                repository.reference(name, *id, true, "fetch")?;
            }
        }
        match self.head.as_deref().filter(|name| Reference::is_valid_name(name)) {
            Some(name) => repository.set_head(name),
            None => Ok(()),
        }
    }
}

/// What all refs stand at.
fn tips(repository: &Repository) -> Result<BTreeSet<Oid>, git2::Error> {
    repository.references()?.filter_map(|reference| reference.map(|r| r.target()).transpose()).collect()
}

/// Takes the pack out of an answer.
fn unpack(answer: impl Read, pack: &mut impl Write) -> Result<(), Refusal> {
    let mut packets = Packets::new(answer);
    let mut bytes = 0;
    loop {
        let line = match packets.next().map_err(|e| broken(&e))? {
            Packet::Line(line) => line,
            // an answer that breaks off makes a pack that is not whole
            Packet::Flush | Packet::End => return Ok(()),
        };
        match line {
            [1, data @ ..] => {
                bytes += data.len();
                if bytes > MAX_PACK_BYTES {
                    return Err(other("the server sends more than 4 GiB".to_owned()));
                }
                let stored = pack.write_all(data);
                stored.map_err(|_| local(&git2::Error::last_error(-1)))?;
            }
            [2, ..] | [b'A', b'C', b'K', ..] | [b'N', b'A', b'K', ..] => {}
            [3, text @ ..] | [b'E', b'R', b'R', b' ', text @ ..] => {
                let text = String::from_utf8_lossy(text);
                return Err(other(format!("the server says: {}", plain(&text))));
            }
            _ => return Err(other("the server's answer is not in git's protocol".to_owned())),
        }
    }
}

/// What a server says, as one line that can't draw on the terminal.
fn plain(text: &str) -> String {
    text.trim().chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn no_access(why: String) -> Refusal {
    Refusal { error: FetchError::NoProject, why }
}

fn other(why: String) -> Refusal {
    Refusal { error: FetchError::Other(why.clone()), why }
}

fn local(error: &git2::Error) -> Refusal {
    other(format!("storing what was fetched: {}", error.message()))
}

fn broken(error: &std::io::Error) -> Refusal {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => other("the server's answer broke off".to_owned()),
        std::io::ErrorKind::TimedOut => {
            other(format!("the server fell silent for {} seconds", PATIENCE.as_secs()))
        }
        _ => other(format!("reading the server's answer: {error}")),
    }
}

/// The innermost reason: the address is said elsewhere.
fn failure(error: &reqwest::Error) -> Refusal {
    if error.is_timeout() {
        return other(format!("the server did not answer within {} seconds", PATIENCE.as_secs()));
    }
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    other(reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    fn lines(lines: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in lines {
            match *line {
                "" => bytes.extend_from_slice(b"0000"),
                line => pkt_line::write(line, &mut bytes),
            }
        }
        bytes
    }

    fn read(texts: &[&str]) -> Result<List, String> {
        List::default().read(lines(texts).as_slice()).map_err(|refusal| refusal.why)
    }

    #[test]
    fn a_list_has_branches_tags_and_a_head() {
        let service = "# service=git-upload-pack\n";
        let head = format!("{ONE} HEAD\0ofs-delta side-band-64k symref=HEAD:refs/heads/trunk\n");
        let [trunk, main] = ["trunk", "main"].map(|name| format!("{ONE} refs/heads/{name}\n"));
        let (tag, peeled) = (format!("{TWO} refs/tags/v1\n"), format!("{ONE} refs/tags/v1^{{}}\n"));
        let request = format!("{TWO} refs/merge-requests/1/head\n");
        let list = read(&[service, "", &head, &main, &trunk, &request, &tag, &peeled, ""]).expect("a list");
        let names: Vec<_> = list.refs.keys().map(String::as_str).collect();
        assert_eq!(names, ["refs/heads/main", "refs/heads/trunk", "refs/tags/v1"]);
        assert_eq!(list.refs["refs/tags/v1"].to_string(), TWO, "the tag itself, not its commit");
        assert_eq!(list.head.as_deref(), Some("refs/heads/trunk"));
        let body = list.request(&[Oid::from_str(ONE).expect("an id")], &BTreeSet::new());
        let expected = lines(&[&format!("want {ONE} side-band-64k ofs-delta\n"), "", "done\n"]);
        assert_eq!(String::from_utf8_lossy(&body), String::from_utf8_lossy(&expected));

        let plain = format!("{ONE} HEAD\0ofs-delta\n");
        let list = read(&[service, "", &plain, &trunk, ""]).expect("a list");
        assert_eq!(list.head.as_deref(), Some("refs/heads/trunk"), "by its commit");
        let empty = format!("{} capabilities^{{}}\0side-band-64k\n", "0".repeat(40));
        assert!(read(&[service, "", &empty, ""]).expect("a list").refs.is_empty());
    }

    #[test]
    fn lists_that_cannot_be_used_say_why() {
        let sha256 = format!("{ONE} HEAD\0object-format=sha256\n");
        let shallow = format!("shallow {ONE}\n");
        let head = format!("{ONE} HEAD\0\n");
        let table: [(&[&str], &str); 6] = [
            (&[&sha256, ""], "SHA-256"),
            (&["", &head, &shallow, ""], "shallow"),
            (&["ERR go\u{1b}[31m away\n", ""], "go [31m away"),
            (&["", "nonsense\n"], "broken"),
            (&["", &head], "broke off"),
            (&[], "broke off"),
        ];
        for (texts, expected) in table {
            let why = read(texts).expect_err("it can't be used");
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn an_answer_holds_a_pack_or_says_why_not() {
        let mut pack = Vec::new();
        let answer = lines(&["NAK\n", "\u{1}PA", "\u{2}counting", "\u{1}CK", ""]);
        unpack(answer.as_slice(), &mut pack).expect("a pack");
        assert_eq!(pack, b"PACK");
        let table = [("\u{3}out of disk\n", "out of disk"), ("ERR no\n", "no"), ("PACK", "protocol")];
        for (line, expected) in table {
            let refusal = unpack(lines(&[line]).as_slice(), &mut Vec::new()).expect_err("no pack");
            assert!(refusal.why.contains(expected), "{}", refusal.why);
        }
    }

    proptest! {
        #[test]
        fn no_server_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[0-9a-f]{0,9}[ \\x00A-Za-z/^{}0-9]{0,60}") {
            let _ = List::default().read(bytes.as_slice());
            let _ = unpack(bytes.as_slice(), &mut Vec::new());
            let line = lines(&["", &format!(" {text}"), ""]);
            let _ = List::default().read(line.as_slice());
            let _ = unpack(line.as_slice(), &mut Vec::new());
        }
    }
}
