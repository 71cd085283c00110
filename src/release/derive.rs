//! Appups from compiled modules: what can be derived safely, and what a person has to write.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Finding,
    appup::Appup,
    erlang::{Beam, Term},
};

/// What abstract code says about a changed module, beyond its beam.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange {
    /// The shape of the state that `init/1` makes changed.
    pub state: bool,
    /// `code_change` changed.
    pub code_change: bool,
    /// `init/1`, or a function of the module that it reaches, changed: for supervisors the children.
    pub start: bool,
}

/// What running both `init/1` of a supervisor says of its children, by their ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Children {
    /// Only the new one has these.
    pub added: Vec<Term>,
    /// Only the old one has these.
    pub removed: Vec<Term>,
}

/// Two versions of one application.
#[derive(Debug, Clone, Copy)]
pub struct AppChange<'a> {
    /// The application.
    pub app: &'a str,
    /// The old version and its modules.
    pub old: (&'a str, &'a BTreeMap<String, Beam>),
    /// The new version and its modules.
    pub new: (&'a str, &'a BTreeMap<String, Beam>),
}

impl AppChange<'_> {
    /// Modules in both versions whose code differs.
    #[must_use]
    pub fn changed(&self) -> Vec<&str> {
        let differs =
            |(name, new): &(&String, &Beam)| self.old.1.get(*name).is_some_and(|old| old.md5 != new.md5);
        self.new.1.iter().filter(differs).map(|(name, _)| &**name).collect()
    }

    /// Changed modules that run as processes or supervisors, whose abstract code has to be asked.
    #[must_use]
    pub fn changed_processes(&self) -> Vec<&str> {
        let runs = |name: &&str| self.new.1.get(*name).is_some_and(|m| m.is_process() || m.is_supervisor());
        self.changed().into_iter().filter(runs).collect()
    }

    /// True when no module differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added().is_empty() && self.deleted().is_empty() && self.changed().is_empty()
    }

    fn added(&self) -> Vec<&str> {
        self.new.1.keys().filter(|name| !self.old.1.contains_key(*name)).map(String::as_str).collect()
    }

    fn deleted(&self) -> Vec<&str> {
        self.old.1.keys().filter(|name| !self.new.1.contains_key(*name)).map(String::as_str).collect()
    }

    /// Derives the appup between the two versions.
    ///
    /// `states` holds, for each of [`AppChange::changed_processes`], what its abstract code says; a module
    /// without debug info is not in it.
    ///
    /// # Errors
    /// All that can't be derived, each with what to write.
    pub fn derive(&self, states: &BTreeMap<String, StateChange>) -> Result<Appup, Vec<Finding>> {
        self.derive_with(states, &BTreeMap::new())
    }

    /// The same, knowing the children of changed supervisors: new ones are started when everything is loaded, removed
    /// ones ended before anything is.
    ///
    /// # Errors
    /// As [`AppChange::derive`].
    pub fn derive_with(
        &self,
        states: &BTreeMap<String, StateChange>,
        children: &BTreeMap<String, Children>,
    ) -> Result<Appup, Vec<Finding>> {
        let mut findings = self.doubts(states);
        findings.retain(|finding| {
            // A003 says that the children are not known
            let known =
                |name: &String| finding.text.starts_with(&format!("`init/1` of the supervisor `{name}` of "));
            finding.code != "A003" || !children.keys().any(known)
        });
        let (added, deleted, changed) = (self.added(), self.deleted(), self.changed());
        let touched: BTreeSet<&str> = added.iter().chain(&changed).copied().collect();
        if self.old.0 == self.new.0 && !(touched.is_empty() && deleted.is_empty()) {
            findings.push(self.same_version(touched.iter().copied().chain(deleted.iter().copied())));
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        let order = self.topological(&touched);
        let delete = |name: &str| instruction("delete_module", name, Vec::new(), &[]);
        let add =
            |name: &str, dependencies: &[&str]| instruction("add_module", name, Vec::new(), dependencies);
        let (mut up, mut down) = (ended(children, false), ended(children, true));
        down.extend(deleted.iter().map(|name| add(name, &[])));
        for name in &order {
            let dependencies = self.dependencies(name, &touched);
            up.push(match added.contains(name) {
                true => add(name, &dependencies),
                false => self.replace(name, &dependencies),
            });
        }
        for name in order.iter().rev() {
            down.push(match added.contains(name) {
                true => delete(name),
                false => self.replace(name, &self.dependencies(name, &touched)),
            });
        }
        up.extend(deleted.iter().map(|name| delete(name)));
        up.extend(started(children, false));
        down.extend(started(children, true));
        let entry = |instructions| vec![(Term::string(self.old.0), instructions)];
        Ok(Appup { version: self.new.0.to_owned(), up: entry(up), down: entry(down) })
    }

    fn replace(&self, name: &str, dependencies: &[&str]) -> Term {
        let Some(beam) = self.new.1.get(name) else {
            return instruction("load_module", name, Vec::new(), &[]);
        };
        if beam.is_supervisor() {
            return instruction("update", name, vec![Term::atom("supervisor")], &[]);
        }
        if beam.has_code_change() {
            let advanced = Term::Tuple(vec![Term::atom("advanced"), Term::List(Vec::new())]);
            return instruction("update", name, vec![advanced], dependencies);
        }
        instruction("load_module", name, Vec::new(), dependencies)
    }

    fn dependencies<'a>(&self, name: &str, touched: &BTreeSet<&'a str>) -> Vec<&'a str> {
        let Some(beam) = self.new.1.get(name) else { return Vec::new() };
        let imports = beam.imports.iter().filter(|import| *import != name);
        imports.filter_map(|import| touched.get(&**import).copied()).collect()
    }

    /// Dependencies first, otherwise by name; a cycle is cut where it closes.
    fn topological<'a>(&'a self, touched: &BTreeSet<&'a str>) -> Vec<&'a str> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for root in touched {
            // an explicit stack: chains of calls between modules can be long
            let mut stack = vec![(*root, false)];
            while let Some((name, done)) = stack.pop() {
                if done {
                    order.push(name);
                } else if seen.insert(name) {
                    stack.push((name, true));
                    let dependencies = self.dependencies(name, touched);
                    stack.extend(dependencies.into_iter().rev().map(|name| (name, false)));
                }
            }
        }
        order
    }

    fn same_version<'a>(&self, modules: impl Iterator<Item = &'a str>) -> Finding {
        let names: Vec<String> = modules.map(|name| format!("`{name}`")).collect();
        Finding::error(
            "A001",
            format!("`{}` is still `{}`, but {} changed", self.app, self.new.0, names.join(", ")),
            format!("increase `vsn` in `{}.app.src`", self.app),
        )
    }

    fn doubts(&self, states: &BTreeMap<String, StateChange>) -> Vec<Finding> {
        self.changed_processes().into_iter().filter_map(|name| self.doubt(name, states.get(name))).collect()
    }

    fn doubt(&self, name: &str, state: Option<&StateChange>) -> Option<Finding> {
        let (app, from) = (self.app, self.old.0);
        let file = format!("`src/{app}.appup.src` (entries from and to `{from}`)");
        let Some(state) = state else {
            return Some(Finding::error(
                "A002",
                format!("`{name}` of `{app}` changed, and without debug info its state can't be compared"),
                format!(
                    "compile with `debug_info` (mix: `strip_beams: false` in `releases:`), or write {file}"
                ),
            ));
        };
        let supervisor = self.new.1.get(name).is_some_and(Beam::is_supervisor);
        if supervisor && state.start {
            return Some(Finding::error(
                "A003",
                format!("`init/1` of the supervisor `{name}` of `{app}` changed, perhaps its children"),
                format!(
                    "write {file}: `{{update, {name}, supervisor}}`, after it for each new child \
                     `{{apply, {{supervisor, restart_child, [{name}, CHILD]}}}}`, before it for each removed one \
                     `{{apply, {{supervisor, terminate_child, [{name}, CHILD]}}}}` and `delete_child`; the \
                     reverse in the other direction"
                ),
            ));
        }
        if !supervisor && state.state && !state.code_change {
            return Some(Finding::error(
                "A004",
                format!("the state of `{name}` of `{app}` changed, but its `code_change/3` did not"),
                format!("convert the old state in `code_change/3`, or write {file}"),
            ));
        }
        None
    }
}

/// Ends the children that only one side has: the old one, or with `down` the new one.
fn ended(children: &BTreeMap<String, Children>, down: bool) -> Vec<Term> {
    let each = children.iter().flat_map(|(supervisor, children)| {
        let gone = if down { &children.added } else { &children.removed };
        let both = |child| {
            ["terminate_child", "delete_child"].map(|function| supervisor_call(function, supervisor, child))
        };
        gone.iter().flat_map(both)
    });
    each.collect()
}

/// Starts the children that only the new side has, or with `down` the old one.
fn started(children: &BTreeMap<String, Children>, down: bool) -> Vec<Term> {
    let each = children.iter().flat_map(|(supervisor, children)| {
        let come = if down { &children.removed } else { &children.added };
        come.iter().map(move |child| supervisor_call("restart_child", supervisor, child))
    });
    each.collect()
}

fn supervisor_call(function: &str, supervisor: &str, child: &Term) -> Term {
    let args = Term::List(vec![Term::atom(supervisor), child.clone()]);
    let call = Term::Tuple(vec![Term::atom("supervisor"), Term::atom(function), args]);
    Term::Tuple(vec![Term::atom("apply"), call])
}

/// `{Name, Module}`, `{Name, Module, Change...}`, with the modules it depends on at the end if there are any.
fn instruction(name: &str, module: &str, change: Vec<Term>, dependencies: &[&str]) -> Term {
    let mut items = vec![Term::atom(name), Term::atom(module)];
    items.extend(change);
    if !dependencies.is_empty() {
        items.push(Term::List(dependencies.iter().map(|name| Term::atom(name)).collect()));
    }
    Term::Tuple(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Kind {
        Plain,
        Process,
        Supervisor,
    }

    fn modules(list: &[(&str, u8, Kind, &[&str])]) -> BTreeMap<String, Beam> {
        let beam = |(name, md5, kind, imports): &(&str, u8, Kind, &[&str])| {
            let behaviour = vec![("behaviour".to_owned(), Term::List(vec![Term::atom("supervisor")]))];
            let code_change = BTreeSet::from([("code_change".to_owned(), 3)]);
            let beam = Beam {
                module: (*name).to_owned(),
                md5: [*md5; 16],
                exports: if matches!(kind, Kind::Process) { code_change } else { BTreeSet::new() },
                imports: imports.iter().map(|name| (*name).to_owned()).collect(),
                attributes: if matches!(kind, Kind::Supervisor) { behaviour } else { Vec::new() },
            };
            ((*name).to_owned(), beam)
        };
        list.iter().map(beam).collect()
    }

    fn same_state(names: &[&str]) -> BTreeMap<String, StateChange> {
        let none = StateChange { state: false, code_change: false, start: false };
        names.iter().map(|name| ((*name).to_owned(), none)).collect()
    }

    fn printed(entries: &[(Term, Vec<Term>)]) -> String {
        entries[0].1.iter().map(Term::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn instructions_come_in_order_of_dependencies_and_back_in_reverse() {
        let old = modules(&[
            ("gone", 0, Kind::Plain, &[]),
            ("kept", 0, Kind::Plain, &[]),
            ("server", 0, Kind::Process, &[]),
            ("sup", 0, Kind::Supervisor, &["server"]),
            ("user", 0, Kind::Plain, &[]),
        ]);
        let new = modules(&[
            ("kept", 0, Kind::Plain, &["user"]),
            ("server", 1, Kind::Process, &["util", "kept", "lists", "server"]),
            ("sup", 1, Kind::Supervisor, &["server"]),
            ("user", 1, Kind::Plain, &["server"]),
            ("util", 1, Kind::Plain, &[]),
        ]);
        let change = AppChange { app: "a", old: ("1", &old), new: ("2", &new) };
        let appup = change.derive(&same_state(&["server", "sup"])).unwrap();
        assert_eq!(
            printed(&appup.up),
            "{add_module,util} {update,server,{advanced,[]},[util]} {update,sup,supervisor} \
             {load_module,user,[server]} {delete_module,gone}"
        );
        assert_eq!(
            printed(&appup.down),
            "{add_module,gone} {load_module,user,[server]} {update,sup,supervisor} \
             {update,server,{advanced,[]},[util]} {delete_module,util}"
        );
    }

    #[test]
    fn known_children_are_ended_first_and_started_last() {
        let all = |md5| modules(&[("a", md5, Kind::Plain, &[]), ("sup", md5, Kind::Supervisor, &[])]);
        let (old, new) = (all(0), all(1));
        let change = AppChange { app: "x", old: ("1", &old), new: ("2", &new) };
        let states = BTreeMap::from([(
            "sup".to_owned(),
            StateChange { state: true, code_change: false, start: true },
        )]);
        assert_eq!(change.derive(&states).unwrap_err()[0].code, "A003");
        let children = Children { added: vec![Term::atom("in")], removed: vec![Term::atom("out")] };
        let appup = change.derive_with(&states, &BTreeMap::from([("sup".to_owned(), children)])).unwrap();
        assert_eq!(
            printed(&appup.up),
            "{apply,{supervisor,terminate_child,[sup,out]}} {apply,{supervisor,delete_child,[sup,out]}} \
             {load_module,a} {update,sup,supervisor} {apply,{supervisor,restart_child,[sup,in]}}"
        );
        assert_eq!(
            printed(&appup.down),
            "{apply,{supervisor,terminate_child,[sup,in]}} {apply,{supervisor,delete_child,[sup,in]}} \
             {update,sup,supervisor} {load_module,a} {apply,{supervisor,restart_child,[sup,out]}}"
        );
    }

    #[test]
    fn a_cycle_is_cut_and_ends() {
        let kinds = |md5| modules(&[("a", md5, Kind::Plain, &["b"]), ("b", md5, Kind::Plain, &["a"])]);
        let (old, new) = (kinds(0), kinds(1));
        let change = AppChange { app: "x", old: ("1", &old), new: ("2", &new) };
        let appup = change.derive(&BTreeMap::new()).unwrap();
        assert_eq!(printed(&appup.up), "{load_module,b,[a]} {load_module,a,[b]}");
    }

    #[test]
    fn what_can_t_be_derived_says_what_to_write() {
        let all = |md5| modules(&[("server", md5, Kind::Process, &[]), ("sup", md5, Kind::Supervisor, &[])]);
        let (old, new) = (all(0), all(1));
        let codes = |old_version, states: &[(&str, StateChange)]| -> Vec<&'static str> {
            let change = AppChange { app: "x", old: (old_version, &old), new: ("2", &new) };
            let states = states.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect();
            change.derive(&states).err().unwrap_or_default().iter().map(|finding| finding.code).collect()
        };
        let none = StateChange { state: false, code_change: false, start: false };
        let state = StateChange { state: true, start: true, ..none };
        let converted = StateChange { code_change: true, ..state };
        assert_eq!(codes("1", &[]), ["A002", "A002"]);
        assert_eq!(codes("1", &[("server", none), ("sup", none)]), [""; 0]);
        assert_eq!(codes("1", &[("server", state), ("sup", none)]), ["A004"]);
        assert_eq!(codes("1", &[("server", converted), ("sup", none)]), [""; 0]);
        assert_eq!(codes("1", &[("server", none), ("sup", state)]), ["A003"]);
        assert_eq!(codes("2", &[("server", none), ("sup", none)]), ["A001"]);
    }
}
